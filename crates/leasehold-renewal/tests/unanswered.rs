//! Requests that are not answered, or answered late: nothing else waits for them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{Announces, Server, secs};
use leasehold_core::{
    Current, ErrorKind, EventKind, Status, Token,
    clock::{Clock, Moment},
};
use leasehold_renewal::Keeper;

async fn start(ttl: u64) -> (Server, Keeper<Token>, Current<Token>) {
    let server = Server::new(ttl, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let current = keeper.current();
    (server, keeper, current)
}

/// Starts a keeper whose second issue is in flight and stays there.
async fn issuing(ttl: u64) -> (Server, Keeper<Token>, Current<Token>) {
    let (server, keeper, current) = start(ttl).await;
    server.set(|state| state.hangs.push("issue"));
    server.wait(secs(2)).await;
    server.refuse(&current).await;
    assert_eq!(server.count("issue"), 2);
    (server, keeper, current)
}

#[tokio::test(start_paused = true)]
async fn while_an_issue_hangs_for_ever_what_lives_is_renewed() {
    let (server, keeper, current) = issuing(60).await;
    for _ in 0..3600 {
        server.wait(secs(1)).await;
        assert!(keeper.health().is_usable(), "{:?}", keeper.health());
    }
    assert_eq!(server.count("issue"), 2, "it is not asked for again");
    server.set(|state| state.hangs.clear());
    server.wait(secs(1)).await;
    assert!(current.get().unwrap().generation().number() >= 2, "an answer that comes late is welcome");
    assert_eq!(keeper.health().status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn while_an_issue_hangs_a_shut_down_is_seen_at_once_and_returns_within_its_bound() {
    let (server, keeper, current) = issuing(600).await;
    let begun = server.clock.now();
    let at_once = async {
        server.wait(secs(1)).await;
        assert_eq!(current.get().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(server.live_leases(), [""; 0], "what nothing uses is revoked");
    };
    let (ended, ()) = tokio::join!(keeper.shutdown_within(secs(5)), at_once);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unreachable, "an issue is left");
    assert!(begun.until(server.clock.now()) <= secs(6));
}

#[tokio::test(start_paused = true)]
async fn while_an_issue_hangs_old_generations_are_revoked() {
    let (server, _keeper, current) = start(600).await;
    let user = current.get().unwrap();
    server.wait(secs(2)).await;
    server.refuse(&current).await;
    assert_eq!(current.get().unwrap().generation().number(), 2);
    server.set(|state| state.hangs.push("issue"));
    server.refuse(&current).await;
    server.until("issue", 3).await;
    drop(user);
    server.wait(secs(1)).await;
    assert_eq!(server.live_leases(), ["lease/2"]);
}

#[tokio::test(start_paused = true)]
async fn while_an_issue_is_under_way_a_report_of_a_dead_token_is_heard() {
    let server = Server::new(3600, 864_000);
    let announces = Announces::new(&server);
    let news = announces.news.clone();
    let keeper = server.builder().start(announces).await.unwrap();
    let mut events = keeper.events();
    server.set(|state| state.hangs.push("issue"));
    server.wait(secs(2)).await;
    news.notify_one();
    server.until("issue", 2).await;
    keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::DeadToken);
    server.wait(secs(1)).await;
    let mut heard = false;
    while let Ok(event) = events.try_recv() {
        heard |= matches!(event.kind, EventKind::Rejected { cause: ErrorKind::DeadToken });
    }
    assert!(heard, "the report is not put off until the answer");
    server.set(|state| (state.hangs.clear(), state.faults.push(("issue", ErrorKind::LoginRefused))).1);
    server.wait(secs(1)).await;
    assert!(!keeper.health().is_usable(), "{:?}", keeper.health());
}

#[tokio::test(start_paused = true)]
async fn while_an_issue_hangs_the_server_is_asked_whether_a_refused_secret_lives() {
    let server = Server::new(600, 700);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.hangs.push("issue"));
    server.until("issue", 2).await;
    let renewals = server.count("renew");
    server.set(|state| state.leases.clear());
    keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::CredentialsRefused);
    server.wait(secs(1)).await;
    assert_eq!(server.count("renew"), renewals + 1);
    assert!(!keeper.health().is_usable(), "the server says that it has gone");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_after_the_stop_is_revoked_and_was_never_published() {
    for (bound, late) in [(3, 1), (3, 60), (60, 10)] {
        let (server, keeper, current) = issuing(600).await;
        let mut events = keeper.events();
        let answer = async {
            server.wait(secs(late)).await;
            server.set(|state| state.hangs.clear());
        };
        let (_, ()) = tokio::join!(keeper.shutdown_within(secs(bound)), answer);
        server.wait(secs(5)).await;
        assert_eq!(server.live_leases(), [""; 0], "{late} s after a stop within {bound} s");
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event.kind, EventKind::Issued { .. }), "{event:?}");
        }
        assert_eq!(current.get().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_given_up_for_a_stop() {
    let (server, keeper, current) = start(600).await;
    server.set(|state| state.hangs.push("renew"));
    server.until("renew", 1).await;
    let begun = server.clock.now();
    drop(current);
    keeper.shutdown_within(secs(5)).await.unwrap();
    assert!(begun.until(server.clock.now()) <= secs(1));
    assert_eq!(server.live_leases(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_given_up_for_a_stronger_reason() {
    let server = Server::new(600, 864_000);
    let announces = Announces::new(&server);
    let news = announces.news.clone();
    let keeper = server.builder().start(announces).await.unwrap();
    server.set(|state| state.hangs.push("renew"));
    server.until("renew", 1).await;
    news.notify_one();
    server.wait(secs(2)).await;
    assert_eq!(keeper.current().get().unwrap().generation().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_hangs_delays_no_renewal() {
    let (server, keeper, current) = start(86_400).await;
    server.wait(secs(2)).await;
    // The old one is to be revoked for a day, and the current one is renewed each half minute.
    current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
    server.wait(secs(1)).await;
    server.set(|state| (state.hangs.push("revoke"), state.ttl = secs(60)).1);
    current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
    server.until("issue", 2).await;
    let from = server.clock.now();
    server.wait(secs(600)).await;
    assert!(server.count("revoke") > 1, "it is tried again");
    let mut last = from;
    let renewed: Vec<Moment> = server.times("renew").into_iter().filter(|at| *at > from).collect();
    for at in renewed {
        assert!(last.until(at) <= secs(37), "{:?} after the one before", last.until(at));
        last = at;
    }
    assert!(keeper.health().is_usable());
}

/// The server renews the lease to beyond its known end, and nobody hears of that.
async fn lost_renewal(server: &Server, current: &Current<Token>) {
    server.set(|state| state.lost_renewals = true);
    server.until("renew", 1).await;
    server.wait(secs(1)).await;
    server.set(|state| (state.lost_renewals, state.down) = (false, Some(ErrorKind::Unreachable)));
    let end = current.get().unwrap().usable_until();
    while server.clock.now() < end + secs(60) {
        server.wait(secs(1)).await;
    }
    server.set(|state| state.down = None);
}

#[tokio::test(start_paused = true)]
async fn an_old_lease_whose_renewal_was_not_answered_is_revoked_even_past_its_known_end() {
    let (server, _keeper, mut current) = start(3600).await;
    lost_renewal(&server, &current).await;
    current.changed().await.unwrap();
    server.wait(secs(60)).await;
    assert_eq!(server.live_leases(), ["lease/2"], "the server may keep it for another hour");
    assert_eq!(server.count("revoke"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_lease_whose_renewal_was_given_up_is_revoked_even_past_its_known_end() {
    let (server, _keeper, mut current) = start(3600).await;
    server.set(|state| state.hangs.push("renew"));
    server.until("renew", 1).await;
    server.wait(secs(31)).await;
    server.set(|state| (state.hangs.clear(), state.down = Some(ErrorKind::Unreachable)).1);
    let end = current.get().unwrap().usable_until();
    while server.clock.now() < end + secs(60) {
        server.wait(secs(1)).await;
    }
    server.set(|state| state.down = None);
    current.changed().await.unwrap();
    server.wait(secs(60)).await;
    assert_eq!(server.live_leases(), ["lease/2"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_secret_again_after_a_stop_is_not_revoked_under_its_users() {
    let server = Server::new(600, 864_000);
    server.set(|state| state.version = Some("the same".to_owned()));
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let user = keeper.current().get().unwrap();
    server.set(|state| state.hangs.push("issue"));
    server.wait(secs(2)).await;
    server.refuse(&keeper.current()).await;
    let users = async {
        server.set(|state| state.hangs.clear());
        server.wait(secs(2)).await;
        assert_eq!(server.count("revoke"), 0, "somebody uses it");
        drop(user);
    };
    let (ended, ()) = tokio::join!(keeper.shutdown(), users);
    ended.unwrap();
    assert_eq!(server.count("revoke"), 1);
}
