//! The token above changes, and everything below follows.

mod common;

use common::{Server, secs};
use leasehold_core::{ErrorKind, clock::Clock};

#[tokio::test(start_paused = true)]
async fn a_new_token_means_new_credentials_and_the_old_go_leaf_first() {
    let tokens = Server::new(600, 1200);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    let mut current = login.current();
    let old = current.get().unwrap();
    assert_eq!(old.parent().unwrap().generation().number(), 1);

    let next = current.changed().await.unwrap();
    assert_eq!(next.parent().unwrap().generation().number(), 2);
    assert!(
        old.parent().unwrap().usable_until() > tokens.clock.now() + secs(60),
        "made while the old token lives"
    );

    tokens.wait(secs(5)).await;
    assert_eq!(leases.live_leases().len(), 2, "still in use");
    assert_eq!(tokens.live_leases().len(), 2, "the old token has a lease");
    drop(old);
    tokens.wait(secs(5)).await;
    assert_eq!(leases.live_leases(), ["lease/2"]);
    assert_eq!(tokens.live_leases(), ["lease/2"], "the old token went with its last lease");
}

#[tokio::test(start_paused = true)]
async fn usable_until_is_the_earlier_end_of_lease_and_token() {
    let tokens = Server::new(100, 100);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(3600, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    let left = tokens.clock.now().until(login.current().get().unwrap().usable_until());
    assert_eq!(left, secs(100));
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_replaced_and_everything_below_it() {
    let tokens = Server::new(600, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    let mut current = login.current();
    let was = token.current().get().unwrap().generation();
    token.current().reject(was, ErrorKind::DeadToken);
    tokens.wait(secs(2)).await;
    assert_eq!(tokens.count("issue"), 1, "a standby may not have heard of a token minted a moment ago");
    token.current().reject(was, ErrorKind::DeadToken);
    let next = current.changed().await.unwrap();
    assert_eq!(next.parent().unwrap().generation().number(), 2);
    assert_eq!(tokens.count("renew"), 0, "no renewal of a token that is known to be dead");
}

#[tokio::test(start_paused = true)]
async fn what_went_with_its_token_is_not_renewed_for_draining() {
    let tokens = Server::new(600, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(60, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    let (mut current, was) = (login.current(), token.current().get().unwrap().generation());
    leases.set(|state| state.down = Some(ErrorKind::DeadToken));
    while leases.count("issue") == 1 {
        tokens.wait(secs(1)).await;
    }
    let renewals = leases.count("renew");
    let mut successor = token.current();
    token.current().reject(was, ErrorKind::DeadToken);
    successor.changed().await.unwrap();
    leases.set(|state| state.down = None);
    current.changed().await.unwrap();
    tokens.wait(secs(5)).await;
    assert_eq!((tokens.count("issue"), leases.count("renew")), (2, renewals));
}

#[tokio::test(start_paused = true)]
async fn two_roles_on_one_token_move_by_themselves() {
    let tokens = Server::new(600, 1200);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let (one, two) = (
        Server::new(300, 86_400).under(token.current(), &tokens.clock),
        Server::new(200, 86_400).under(token.current(), &tokens.clock),
    );
    let first = one.builder().start(one.clone()).await.unwrap();
    let second = two.builder().start(two.clone()).await.unwrap();
    let (mut a, mut b) = (first.current(), second.current());
    let (a, b) = tokio::join!(a.changed(), b.changed());
    assert_eq!(a.unwrap().parent().unwrap().generation().number(), 2);
    assert_eq!(b.unwrap().parent().unwrap().generation().number(), 2);
    assert_eq!((one.count("issue"), two.count("issue")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_renewed_meanwhile_does_not_make_max_ttl_look_like_its_end() {
    // The lease's max TTL (10 s) is where the token would have ended (9 s, more or less), had it not been renewed.
    let tokens = Server::new(9, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(11, 10).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    tokens.wait(secs(1)).await;
    // Whoever says that it is refused has it renewed.
    token.current().reject(token.current().get().unwrap().generation(), ErrorKind::CredentialsRefused);
    login.current().changed().await.unwrap();
    assert!(tokens.count("renew") >= 1);
    assert_eq!(leases.count("renew"), 1, "replaced after the first truncated grant");
}

#[tokio::test(start_paused = true)]
async fn the_same_version_under_a_new_token_is_a_new_generation_and_no_hot_loop() {
    let tokens = Server::new(600, 1200);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    leases.set(|state| state.version = Some("the same".to_owned()));
    let login = leases.builder().start(leases.clone()).await.unwrap();
    tokens.wait(secs(3600)).await;
    assert!(leases.count("issue") < 20, "{} issues in an hour", leases.count("issue"));
    let now = login.current().get().unwrap();
    assert_eq!(now.parent().unwrap().generation(), token.current().get().unwrap().generation());
}

#[tokio::test(start_paused = true)]
async fn a_lease_as_long_as_its_token_is_renewed_at_its_usual_time() {
    let tokens = Server::new(3600, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(3600, 86_400).under(token.current(), &tokens.clock);
    let _login = leases.builder().start(leases.clone()).await.unwrap();
    tokens.wait(secs(3600 * 61 / 100)).await;
    assert_eq!(leases.count("renew"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_without_a_successor_costs_few_requests() {
    let tokens = Server::new(3600, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(3600, 86_400).under(token.current(), &tokens.clock);
    let _login = leases.builder().start(leases.clone()).await.unwrap();
    tokens.wait(secs(300)).await;
    for server in [&tokens, &leases] {
        server.set(|state| state.down = Some(ErrorKind::DeadToken));
    }
    // Each 403 of a lease's costs a lookup of the token too.
    let requests = || tokens.requests() + 2 * leases.requests();
    let (before, generation) = (requests(), token.current().get().unwrap().generation());
    for _ in 0..330 {
        token.current().reject(generation, ErrorKind::DeadToken);
        tokens.wait(secs(10)).await;
    }
    let requests = requests() - before;
    assert!(requests < 50, "{requests} requests in the rest of the hour");
}

#[tokio::test(start_paused = true)]
async fn readiness_turns_red_when_the_token_is_dead_and_the_login_refused() {
    let tokens = Server::new(86_400, 864_000);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(3600, 864_000).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    leases.set(|state| state.down = Some(ErrorKind::DeadToken));
    tokens.set(|state| state.down = Some(ErrorKind::LoginRefused));
    while leases.count("renew") == 0 {
        assert!(login.health().is_ready(secs(30)), "nobody knows yet");
        tokens.wait(secs(1)).await;
    }
    // Whoever asked for the renewal was told that the token is dead.
    token.current().reject(token.current().get().unwrap().generation(), ErrorKind::DeadToken);
    tokens.wait(secs(1)).await;
    let logins = tokens.count("issue") - 1;
    assert!((1..5).contains(&logins), "{logins} attempts to log in within a second");
    assert!(!token.health().is_ready(secs(30)), "{:?}", token.health());
    assert!(!login.health().is_ready(secs(30)), "{:?}", login.health());
}
