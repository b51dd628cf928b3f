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
    let next = current.changed().await.unwrap();
    assert_eq!(next.parent().unwrap().generation().number(), 2);
    assert_eq!(tokens.count("renew"), 0, "no renewal of a token that is known to be dead");
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
    login.current().changed().await.unwrap();
    assert_eq!(
        (tokens.count("renew"), leases.count("renew")),
        (1, 1),
        "replaced at the first truncated grant"
    );
}
