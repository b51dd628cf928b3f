//! The server fails; what works goes on working.

mod common;

use std::time::Duration;

use common::{Server, secs};
use leasehold_core::{ErrorKind, Status, clock::Clock};

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_lease_is_invisible() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let first = keeper.current().get().unwrap();
    server.wait(secs(100)).await;
    server.set(|state| state.down = Some(ErrorKind::Sealed));
    server.wait(secs(300)).await;
    assert!(matches!(keeper.health().status, Status::Degraded { .. }));
    assert!(keeper.health().is_usable());
    server.set(|state| state.down = None);
    server.wait(secs(60)).await;
    assert_eq!(keeper.health().status, Status::Healthy);
    assert_eq!(keeper.current().get().unwrap().generation(), first.generation(), "renewed, not replaced");
}

#[tokio::test(start_paused = true)]
async fn past_the_end_the_old_value_is_still_handed_out_and_recovery_is_prompt() {
    let server = Server::new(60, 3600);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    server.wait(secs(10)).await;
    server.set(|state| state.down = Some(ErrorKind::Unreachable));
    server.wait(secs(1800)).await;
    let old = current.get().unwrap();
    assert!(old.usable_until() < server.clock.now());
    assert!(!keeper.health().is_usable());
    let during = server.requests();
    assert!(during < 450, "{during} requests in half an hour: one each 5 s on average");
    server.set(|state| state.down = None);
    let back = server.clock.now();
    current.changed().await.unwrap();
    assert!(back.until(server.clock.now()) <= secs(10));
    assert_eq!(keeper.health().status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_keeps_failing_falls_back_to_an_issue_while_there_is_time() {
    for kind in [ErrorKind::Unreachable, ErrorKind::Denied, ErrorKind::RenewalFailed] {
        let server = Server::new(600, 86_400);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.set(|state| state.faults.push(("renew", kind)));
        let mut current = keeper.current();
        let first = current.get().unwrap();
        current.changed().await.unwrap();
        let left = server.clock.now().until(first.usable_until());
        assert!(left > secs(30), "{kind}: {left:?} to drain");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_gone_is_replaced_at_once() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.leases.clear());
    let mut current = keeper.current();
    current.changed().await.unwrap();
    assert_eq!((server.count("renew"), server.count("issue")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_missing_role_is_asked_for_slowly_and_found_when_it_is_back() {
    let server = Server::new(60, 120);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.down = Some(ErrorKind::NotFound));
    server.wait(secs(3600)).await;
    let requests = server.requests();
    assert!(requests < 200, "{requests} requests in an hour: one each 30 s on average");
    server.set(|state| state.down = None);
    server.wait(secs(61)).await;
    assert!(keeper.health().is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_refused_start_is_an_error_after_one_attempt() {
    let server = Server::new(60, 120);
    server.set(|state| state.down = Some(ErrorKind::LoginRefused));
    let error = server.builder().start(server.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused);
    server.wait(secs(600)).await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_suspension_an_ended_secret_is_replaced_at_once() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    server.wait(secs(10)).await;
    server.clock.suspend(secs(7200));
    let woke = server.clock.now();
    current.changed().await.unwrap();
    assert!(woke.until(server.clock.now()) <= secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_gone_is_not_called_usable() {
    let server = Server::new(3600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| {
        state.leases.clear();
        state.faults.push(("issue", ErrorKind::Unreachable));
    });
    server.wait(secs(2400)).await;
    assert!(!keeper.health().is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_eat_the_time_of_a_successor() {
    let server = Server::new(60, 3600);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    let first = current.get().unwrap();
    server.wait(secs(20)).await;
    server.set(|state| state.answer_after = secs(600));
    server.wait(secs(20)).await; // the renewal is under way, and hangs
    server.set(|state| state.answer_after = Duration::ZERO);
    assert_eq!(server.count("renew"), 1);
    current.changed().await.unwrap();
    assert!(first.usable_until() > server.clock.now(), "replaced before its end");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_renewed_is_a_fact_and_no_trouble() {
    let server = Server::new(86_400, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.faults.push(("renew", ErrorKind::NotRenewable)));
    server.wait(secs(60_000)).await;
    assert_eq!(server.count("renew"), 1);
    assert_eq!(keeper.health().status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_only_causes_an_early_look() {
    let server = Server::new(3600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.wait(secs(60)).await;
    server.clock.step_wall_clock();
    server.wait(secs(2)).await;
    assert_eq!((server.count("renew"), server.count("issue")), (1, 1));
    assert_eq!(keeper.current().get().unwrap().generation().number(), 1);

    // A clock that somebody steps all the time does not make each step a request.
    for _ in 0..10 {
        server.wait(secs(5)).await;
        server.clock.step_wall_clock();
    }
    assert_eq!(server.count("renew"), 1);
    server.wait(secs(200)).await;

    // While this machine stood still, the server's lease ran out.
    server.set(|state| state.leases.clear());
    server.clock.step_wall_clock();
    let mut current = keeper.current();
    let stepped = server.clock.now();
    current.changed().await.unwrap();
    assert!(stepped.until(server.clock.now()) <= secs(2));
}

#[tokio::test(start_paused = true)]
async fn readiness_turns_red_before_the_end_and_only_for_want_of_a_successor() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let margin = secs(30);
    server.wait(secs(700)).await;
    assert!(keeper.health().is_ready(margin), "renewed in time");
    server.set(|state| state.down = Some(ErrorKind::Sealed));
    while keeper.health().is_ready(margin) {
        server.wait(secs(1)).await;
    }
    let left = keeper.health().usable_for.unwrap();
    assert!(left > secs(28) && left <= margin, "{left:?} left when it turned red");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_with_a_no_to_renewals_is_over() {
    let server = Server::new(86_400, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.faults.push(("renew", ErrorKind::Unreachable)));
    while keeper.health().status == Status::Healthy {
        server.wait(secs(1)).await;
    }
    server.set(|state| state.faults = vec![("renew", ErrorKind::NotRenewable)]);
    server.wait(secs(60)).await;
    assert_eq!(keeper.health().status, Status::Healthy);
}
