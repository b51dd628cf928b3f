//! Obtaining the very first secret.

mod common;

use std::time::Duration;

use common::{Server, secs};
use leasehold_core::{ErrorKind, EventKind, Status, clock::Clock};
use leasehold_renewal::StartPolicy;

fn down(kind: ErrorKind) -> Server {
    let server = Server::new(60, 600);
    server.set(|state| state.down = Some(kind));
    server
}

#[tokio::test(start_paused = true)]
async fn by_default_it_waits_half_a_minute_for_what_may_come_right_by_itself() {
    for kind in
        [ErrorKind::Unreachable, ErrorKind::Sealed, ErrorKind::RateLimited, ErrorKind::DatabaseUnavailable]
    {
        let server = down(kind);
        let begun = server.clock.now();
        let error = server.builder().start(server.clone()).await.unwrap_err();
        let waited = begun.until(server.clock.now());
        assert_eq!(error.kind(), kind);
        assert!(waited >= secs(10) && waited <= secs(30), "{kind}: {waited:?}");
        assert!(server.requests() < 40, "{} requests", server.requests());
        let requests = server.requests();
        server.wait(secs(600)).await;
        assert_eq!(server.requests(), requests, "it has given up");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_must_correct_fails_at_once() {
    for kind in [ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::LoginRefused, ErrorKind::Configuration] {
        let server = down(kind);
        let begun = server.clock.now();
        assert_eq!(server.builder().start(server.clone()).await.unwrap_err().kind(), kind);
        assert_eq!((begun.until(server.clock.now()), server.requests()), (Duration::ZERO, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn it_may_fail_after_one_attempt() {
    let server = down(ErrorKind::Sealed);
    let builder = server.builder().start_policy(StartPolicy::FailAtOnce);
    assert_eq!(builder.start(server.clone()).await.unwrap_err().kind(), ErrorKind::Sealed);
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_up_in_time_is_no_failure() {
    let server = down(ErrorKind::Unreachable);
    let up = async {
        server.wait(secs(12)).await;
        server.set(|state| state.down = None);
    };
    let (keeper, ()) = tokio::join!(server.builder().start(server.clone()), up);
    let keeper = keeper.unwrap();
    assert_eq!(keeper.current().get().unwrap().generation().number(), 1);
    assert_eq!(keeper.health().status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn it_may_start_degraded_and_says_why_until_it_has_one() {
    for kind in [ErrorKind::Unreachable, ErrorKind::Denied] {
        let server = down(kind);
        let keeper =
            server.builder().start_policy(StartPolicy::Degraded).start(server.clone()).await.unwrap();
        server.wait(secs(300)).await;
        let error = keeper.current().get().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotYet);
        assert!(error.to_string().contains(&format!("scripted: {kind}")), "{error}");
        let health = keeper.health();
        assert!(!health.is_usable() && !health.is_ready(Duration::ZERO) && health.generation.is_none());
        assert!(matches!(health.status, Status::Degraded { .. }));
        assert!(server.requests() < 80, "{} requests in 300 s", server.requests());

        server.set(|state| state.down = None);
        let issued = keeper.current().ready().await.unwrap();
        assert_eq!(issued.generation().number(), 1);
        assert_eq!(keeper.health().status, Status::Healthy);
        keeper.shutdown().await.unwrap_or_default();
    }
}

#[tokio::test(start_paused = true)]
async fn a_degraded_start_can_be_shut_down_and_given_up() {
    let server = down(ErrorKind::Unreachable);
    let keeper = server.builder().start_policy(StartPolicy::Degraded).start(server.clone()).await.unwrap();
    let current = keeper.current();
    server.wait(secs(5)).await;
    keeper.shutdown().await.unwrap();
    assert_eq!(current.get().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(current.ready().await.unwrap_err().kind(), ErrorKind::Closed);

    let keeper = server.builder().start_policy(StartPolicy::Degraded).start(server.clone()).await.unwrap();
    drop(keeper);
    server.wait(secs(60)).await;
    let requests = server.requests();
    server.wait(secs(600)).await;
    assert_eq!(server.requests(), requests, "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_start_before_their_token_follow_it_within_a_second() {
    let tokens = down(ErrorKind::Sealed);
    let token = tokens.builder().start_policy(StartPolicy::Degraded).start(tokens.clone()).await.unwrap();
    let leases = Server::new(60, 600).under(token.current(), &tokens.clock);
    let login = leases.builder().start_policy(StartPolicy::Degraded).start(leases.clone()).await.unwrap();
    tokens.wait(secs(100)).await;
    tokens.set(|state| state.down = None);
    token.current().ready().await.unwrap();
    let logged_in = tokens.clock.now();
    login.current().ready().await.unwrap();
    assert!(logged_in.until(tokens.clock.now()) <= secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_heard_of_the_token_yet_fails_no_start() {
    for kind in [ErrorKind::DeadToken, ErrorKind::NotReplicated] {
        let tokens = Server::new(3600, 86_400);
        let token = tokens.builder().start(tokens.clone()).await.unwrap();
        let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
        leases.set(|state| state.faults.push(("issue", kind)));
        let heard = async {
            leases.wait(Duration::from_millis(400)).await;
            leases.set(|state| state.faults.clear());
        };
        let (login, ()) = tokio::join!(leases.builder().start(leases.clone()), heard);
        assert_eq!(login.unwrap().health().status, Status::Healthy, "{kind}");
        let attempts = leases.count("issue");
        assert!(attempts <= 3, "{kind}: {attempts} attempts");
        assert_eq!(
            (tokens.count("issue"), tokens.count("renew")),
            (1, 0),
            "{kind}: the token is not to blame"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_token_is_not_there_it_is_said_once() {
    let tokens = down(ErrorKind::Sealed);
    let token = tokens.builder().start_policy(StartPolicy::Degraded).start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start_policy(StartPolicy::Degraded).start(leases.clone()).await.unwrap();
    let (mut events, mut failed) = (login.events(), 0);
    for _ in 0..600 {
        tokens.wait(secs(1)).await;
        while let Ok(event) = events.try_recv() {
            failed += u32::from(matches!(event.kind, EventKind::Failed { .. }));
        }
    }
    assert!(failed <= 1, "{failed} reports in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_start_returns_within_its_bound_whatever_its_provider_takes_and_revokes_what_comes_later() {
    let server = Server::new(600, 86_400);
    server.set(|state| state.answer_after = secs(60));
    let begun = server.clock.now();
    let policy = StartPolicy::WaitUpTo(secs(5));
    let error = server.builder().start_policy(policy).start(server.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(begun.until(server.clock.now()) <= secs(6));
    server.set(|state| state.answer_after = Duration::ZERO);
    server.wait(secs(200)).await;
    assert_eq!((server.count("issue"), server.count("revoke")), (1, 1));
    assert_eq!(server.live_leases(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_tried_once_more_near_its_bound() {
    for _ in 0..20 {
        let server = down(ErrorKind::Unreachable);
        let up = async {
            server.wait(secs(28)).await;
            server.set(|state| state.down = None);
        };
        let (keeper, ()) = tokio::join!(server.builder().start(server.clone()), up);
        assert!(keeper.is_ok(), "the server was up two seconds before the end of thirty");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_would_wait_for_ever_still_fails_at_once_for_what_somebody_must_correct() {
    let server = down(ErrorKind::Denied);
    let begun = server.clock.now();
    let start = server.builder().start_policy(StartPolicy::WaitUpTo(Duration::MAX)).start(server.clone());
    let error = tokio::time::timeout(secs(600), start).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(begun.until(server.clock.now()), Duration::ZERO);
}
