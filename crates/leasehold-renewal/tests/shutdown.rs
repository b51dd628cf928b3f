//! The end of a keeper.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Server, secs};
use leasehold_core::{ErrorKind, clock::Clock};

#[tokio::test(start_paused = true)]
async fn it_waits_for_users_and_then_revokes() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let current = keeper.current();
    let user = current.get().unwrap();
    let begun = server.clock.now();
    let release = async {
        server.wait(secs(2)).await;
        assert_eq!(current.get().unwrap_err().kind(), ErrorKind::Closed, "nobody new gets it");
        assert_eq!(server.live_leases().len(), 1, "not revoked under its user");
        drop(user);
    };
    let (ended, ()) = tokio::join!(keeper.shutdown(), release);
    ended.unwrap();
    assert_eq!(server.live_leases().len(), 0);
    assert!(begun.until(server.clock.now()) < secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_can_be_the_one_that_shuts_down() {
    for _ in 0..300 {
        let server = Server::new(600, 86_400);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        keeper.shutdown().await.unwrap();
        assert_eq!(server.live_leases().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn users_who_do_not_let_go_lose_it_within_the_bound() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let _user = keeper.current().get().unwrap();
    let begun = server.clock.now();
    keeper.shutdown_within(secs(4)).await.unwrap();
    assert_eq!(server.live_leases().len(), 0);
    assert!(begun.until(server.clock.now()) <= secs(4));
}

#[tokio::test(start_paused = true)]
async fn with_the_server_down_or_slow_it_ends_within_the_bound_and_says_what_is_left() {
    for slow in [Duration::ZERO, secs(60)] {
        let server = Server::new(600, 86_400);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.set(|state| (state.down, state.answer_after) = (Some(ErrorKind::Unreachable), slow));
        let begun = server.clock.now();
        let error = keeper.shutdown_within(secs(5)).await.unwrap_err();
        assert!(begun.until(server.clock.now()) <= secs(6));
        assert!(error.to_string().contains("1 of scripted not revoked"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_does_not_hold_the_shutdown_beyond_its_bound() {
    let server = Server::new(10, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.answer_after = secs(300));
    server.wait(secs(9)).await;
    let begun = server.clock.now();
    keeper.shutdown_within(secs(5)).await.unwrap_err();
    assert!(begun.until(server.clock.now()) <= secs(6));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_stops_nothing_while_someone_can_read() {
    let server = Server::new(60, 100);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    drop(keeper);
    for _ in 0..5 {
        current.changed().await.unwrap();
    }
    drop(current);
    server.wait(secs(20)).await;
    assert_eq!(server.live_leases().len(), 0, "ended and revoked when the last handle went");
    let requests = server.requests();
    server.wait(secs(3600)).await;
    assert_eq!(server.requests(), requests, "the task has ended");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_leaves_no_lease() {
    let server = Server::new(600, 86_400);
    server.set(|state| state.answer_after = secs(2));
    let start = server.builder().start(server.clone());
    tokio::time::timeout(secs(1), start).await.unwrap_err();
    server.wait(secs(30)).await;
    assert_eq!((server.count("issue"), server.count("revoke")), (1, 1));
    assert_eq!(server.live_leases().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_the_policy_forbids_is_asked_for_once() {
    let server = Server::new(6, 15);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.faults.push(("revoke", ErrorKind::Denied)));
    server.wait(secs(300)).await;
    assert!(server.count("issue") > 10);
    assert_eq!(server.count("revoke"), 1);
    keeper.shutdown().await.unwrap();
    assert_eq!(server.count("revoke"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_fails_is_tried_again() {
    let server = Server::new(600, 1000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    server.set(|state| state.faults.push(("revoke", ErrorKind::Unreachable)));
    current.changed().await.unwrap();
    server.wait(secs(20)).await;
    assert_eq!(server.live_leases().len(), 2);
    let tries = server.count("revoke");
    assert!((2..20).contains(&tries), "{tries}");
    server.set(|state| state.faults.clear());
    server.wait(secs(40)).await;
    assert_eq!(server.live_leases(), ["lease/2"]);
    drop(Arc::clone(&server.clock));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_even_begun_is_said() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let error = keeper.shutdown_within(Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("1 of scripted not revoked"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_arrives_after_the_bound_is_revoked_all_the_same() {
    let server = Server::new(100, 100);
    server.set(|state| state.renewable = false);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.answer_after = secs(30));
    while server.count("issue") < 2 {
        server.wait(secs(1)).await;
    }
    server.set(|state| state.answer_after = Duration::ZERO);
    keeper.shutdown_within(secs(2)).await.unwrap_err();
    server.wait(secs(60)).await;
    assert_eq!(server.live_leases().len(), 0, "nobody else knows of it");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_waits_for_its_next_attempt_is_not_left_at_shut_down() {
    let server = Server::new(600, 1000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    server.set(|state| state.faults.push(("revoke", ErrorKind::Unreachable)));
    current.changed().await.unwrap();
    server.wait(secs(90)).await;
    server.set(|state| state.faults.clear());
    drop(current);
    keeper.shutdown_within(secs(5)).await.unwrap();
    assert_eq!(server.live_leases().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_shutdown_an_outage_at_the_end_leaves_nothing_either() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.down = Some(ErrorKind::Unreachable));
    drop(keeper);
    server.wait(secs(60)).await;
    assert_eq!(server.live_leases().len(), 1);
    server.set(|state| state.down = None);
    server.wait(secs(60)).await;
    assert_eq!(server.live_leases().len(), 0, "tried until it would have ended by itself");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_arrives_around_the_bound_is_revoked_whatever_is_answered() {
    for beyond in [-1000_i64, -1, 0, 1, 100, 240, 249, 250, 251, 300] {
        let server = Server::new(100, 100);
        server.set(|state| state.renewable = false);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.set(|state| state.answer_after = secs(30));
        while server.count("issue") < 2 {
            server.wait(Duration::from_millis(10)).await;
        }
        server.set(|state| state.answer_after = Duration::ZERO);
        let bound = Duration::from_millis(30_000_u64.saturating_add_signed(-beyond));
        let ended = keeper.shutdown_within(bound).await;
        assert!(ended.is_ok() || beyond >= 240, "{beyond} ms beyond the bound: {ended:?}");
        server.wait(secs(20)).await;
        assert_eq!(server.live_leases(), [""; 0], "{beyond} ms beyond the bound");
    }
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_revocation_does_not_hold_a_shut_down_up() {
    // Its policy is known to forbid it.
    let forbidden = Server::new(6, 15);
    let keeper = forbidden.builder().start(forbidden.clone()).await.unwrap();
    forbidden.set(|state| state.faults.push(("revoke", ErrorKind::Denied)));
    forbidden.until("revoke", 1).await;
    let begun = forbidden.clock.now();
    keeper.shutdown().await.unwrap();
    assert!(begun.until(forbidden.clock.now()) < secs(1));

    // It has ended by itself.
    let ended = Server::new(60, 60);
    let keeper = ended.builder().start(ended.clone()).await.unwrap();
    ended.set(|state| state.down = Some(ErrorKind::Unreachable));
    ended.wait(secs(300)).await;
    let begun = ended.clock.now();
    keeper.shutdown().await.unwrap();
    assert!(begun.until(ended.clock.now()) < secs(1));
}
