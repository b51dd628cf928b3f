//! What the server may say, and what is done about it.

mod common;

use common::{Server, secs};
use leasehold_core::{ErrorKind, Status, TokenKind, clock::Clock};

#[tokio::test(start_paused = true)]
async fn what_another_node_has_not_seen_yet_is_asked_for_again_shortly() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.down = Some(ErrorKind::NotReplicated));
    while server.count("renew") == 0 {
        server.wait(secs(1)).await;
    }
    server.wait(secs(4)).await;
    let asked = server.requests() - 1;
    assert!((3..12).contains(&asked), "{asked} requests in four to five seconds");
    assert!(matches!(keeper.health().status, Status::Degraded { .. }));
    assert_eq!(keeper.current().get().unwrap().generation().number(), 1, "kept");
    server.set(|state| state.down = None);
    server.wait(secs(20)).await;
    assert_eq!(keeper.health().status, Status::Healthy);
    assert_eq!((server.count("issue"), keeper.current().get().unwrap().generation().number()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_wait_that_the_server_asks_for_is_kept_from_the_start_on() {
    let server = Server::new(600, 86_400);
    server.set(|state| (state.down, state.retry_after) = (Some(ErrorKind::RateLimited), Some(secs(12))));
    let begun = server.clock.now();
    let enough = async {
        server.wait(secs(13)).await;
        server.set(|state| state.down = None);
    };
    let (keeper, ()) = tokio::join!(server.builder().start(server.clone()), enough);
    let _keeper = keeper.unwrap();
    assert_eq!((server.count("issue"), begun.until(server.clock.now())), (3, secs(24)));

    server.set(|state| (state.down, state.retry_after) = (Some(ErrorKind::RateLimited), Some(secs(45))));
    let before = server.requests();
    server.wait(secs(570)).await;
    let asked: Vec<_> =
        server.state.lock().unwrap().requests[before..].iter().map(|request| request.0).collect();
    assert!(asked.len() >= 4, "{} requests in the lease's life", asked.len());
    // The time to drain begins with an attempt, whatever was asked for: 60 s before the end.
    let kept = asked.windows(2).filter(|pair| pair[0].until(pair[1]) >= secs(45)).count();
    assert!(kept + 2 >= asked.len() - 1, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn under_a_batch_token_a_lease_waits_for_the_next_token_and_moves() {
    let tokens = Server::new(600, 600);
    tokens.set(|state| (state.kind, state.renewable) = (TokenKind::Batch, false));
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(3600, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    let (mut current, mut tokens_current) = (login.current(), token.current());
    for number in 2..=5 {
        let old = current.get().unwrap();
        tokens_current.changed().await.unwrap();
        let moved = tokens.clock.now();
        let next = current.changed().await.unwrap();
        assert!(moved.until(tokens.clock.now()) <= secs(1));
        assert_eq!(
            (next.generation().number(), next.parent().unwrap().generation().number()),
            (number, number)
        );
        let left = tokens.clock.now().until(old.usable_until());
        assert!(left >= secs(60), "{left:?} to drain");
        assert_eq!(leases.count("issue"), usize::try_from(number).unwrap_or_default());
    }
    assert_eq!((leases.count("renew"), tokens.count("renew")), (0, 0), "neither could gain anything");
}

#[tokio::test(start_paused = true)]
async fn a_lease_shorter_than_its_batch_token_is_renewed_until_the_token_cuts_it() {
    let tokens = Server::new(3600, 3600);
    tokens.set(|state| (state.kind, state.renewable) = (TokenKind::Batch, false));
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    // A server down for logins makes the token's last minutes visible.
    tokens.set(|state| state.faults.push(("issue", ErrorKind::Unreachable)));
    tokens.wait(secs(3599)).await;
    assert!(login.health().is_usable(), "to the token's last second");
    let renewals = leases.count("renew");
    assert!((3600 / 180..3600 / 150 + 3).contains(&renewals), "{renewals} renewals in an hour");
    assert_eq!(leases.count("issue"), 1, "nothing issued under it would live longer");
}

#[tokio::test(start_paused = true)]
async fn two_keepers_of_one_role_on_one_token_live_and_die_by_themselves() {
    let tokens = Server::new(600, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    let first = leases.builder().start(leases.clone()).await.unwrap();
    let second = leases.builder().start(leases.clone()).await.unwrap();
    let id = |keeper: &leasehold_renewal::Keeper<_>| keeper.current().get().unwrap().lease().id().to_owned();
    assert_eq!((id(&first), id(&second)), ("lease/1".to_owned(), "lease/2".to_owned()), "separate leases");

    // What one of them loses, the other does not notice.
    leases.set(|state| state.leases.retain(|lease| lease.0 != "lease/1"));
    first.current().reject(first.current().get().unwrap().generation(), ErrorKind::CredentialsRefused);
    tokens.wait(secs(2)).await;
    assert_eq!((id(&first), id(&second)), ("lease/3".to_owned(), "lease/2".to_owned()));

    first.shutdown().await.unwrap();
    assert_eq!(leases.live_leases(), ["lease/2"]);
    assert_eq!((tokens.count("revoke"), tokens.live_leases().len()), (0, 1), "the token is not theirs");
    let renewals = leases.count("renew");
    tokens.wait(secs(3600)).await;
    assert!(leases.count("renew") >= renewals + 12, "{}", leases.count("renew") - renewals);
    assert_eq!((second.health().status.clone(), id(&second)), (Status::Healthy, "lease/2".to_owned()));

    second.shutdown().await.unwrap();
    assert_eq!((leases.live_leases().len(), tokens.count("revoke")), (0, 0));
    token.shutdown().await.unwrap();
    assert_eq!(tokens.live_leases().len(), 0);
}
