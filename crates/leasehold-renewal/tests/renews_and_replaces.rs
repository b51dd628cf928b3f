//! The ordinary life of a secret.

mod common;

use std::time::Duration;

use common::{Server, secs};
use leasehold_core::{ErrorKind, EventKind, Status, Uses, clock::Clock};

#[tokio::test(start_paused = true)]
async fn it_is_renewed_until_a_grant_is_truncated_and_replaced_then() {
    let server = Server::new(6, 15);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    let first = current.get().unwrap();
    let mut events = keeper.events();

    let second = current.changed().await.unwrap();
    assert_eq!((first.generation().number(), second.generation().number()), (1, 2));
    let left = server.clock.now().until(first.usable_until());
    assert!(left >= secs(2), "{left:?} to drain");
    assert!(first.is_superseded() && !second.is_superseded());
    let mut truncated = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let EventKind::Renewed { truncated: was, .. } = event.kind {
            truncated.push(was);
        }
    }
    assert_eq!(truncated.last(), Some(&true), "the last renewal said that max TTL was near");
    assert!(truncated.len() >= 2 && !truncated[0], "{truncated:?}");
}

#[tokio::test(start_paused = true)]
async fn a_superseded_lease_is_revoked_when_its_last_user_lets_go_and_not_before() {
    let server = Server::new(6, 15);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    let user = current.get().unwrap();
    current.changed().await.unwrap();
    server.wait(secs(1)).await;
    assert_eq!(server.live_leases(), ["lease/1", "lease/2"]);
    drop(user);
    server.wait(secs(1)).await;
    assert_eq!(server.live_leases(), ["lease/2"]);
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_short_leases_costs_a_bounded_number_of_requests() {
    for (ttl, max, renewable, bound) in
        [(1, 2, true, 4.0), (1, 1, false, 4.0), (0, 0, false, 4.1), (6, 15, true, 0.5)]
    {
        let server = Server::new(ttl, max);
        server.set(|state| state.renewable = renewable);
        let _keeper = server.builder().start(server.clone()).await.unwrap();
        server.wait(secs(3600)).await;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let rate = server.requests() as f64 / 3600.0;
        assert!(rate <= bound * 1.2 && rate > 0.01, "ttl {ttl}: {rate} requests/s");
        assert!(server.live_leases().len() <= 2, "ttl {ttl}: old ones are revoked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_lease_costs_nothing_in_between() {
    let server = Server::new(2_592_000, 31_536_000);
    let _keeper = server.builder().start(server.clone()).await.unwrap();
    server.wait(secs(600_000)).await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_renewable_is_replaced_before_its_end() {
    let server = Server::new(3600, 3600);
    server.set(|state| state.renewable = false);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    let mut issued = current.get().unwrap();
    // The first of a fleet that may have started together is spread over half of its TTL, the next ones over a tenth.
    for widest in [1800, 360, 360] {
        let next = current.changed().await.unwrap();
        let left = server.clock.now().until(issued.usable_until());
        assert!(left >= secs(75) && left <= secs(75 + widest), "{left:?}");
        issued = next;
    }
    assert_eq!(server.count("renew"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_answered_with_nothing_extends_nothing() {
    // Close to the end a server may answer 200 with an empty body (Vault #1979).
    let server = Server::new(60, 3600);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    let first = current.get().unwrap();
    let end = first.usable_until();
    server.set(|state| state.ttl = secs(0));
    while server.count("renew") == 0 {
        server.wait(secs(1)).await;
    }
    server.set(|state| state.ttl = secs(60));
    current.changed().await.unwrap();
    assert_eq!(first.usable_until(), end);
    assert!(server.clock.now() < end, "replaced in time");
}

#[tokio::test(start_paused = true)]
async fn what_may_be_used_only_so_often_is_replaced_while_half_is_left() {
    let server = Server::new(3600, 86_400);
    let uses = Uses::new(6);
    server.set(|state| state.uses = Some(uses.clone()));
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    server.set(|state| state.uses = None);
    for left in [5, 4] {
        uses.take_one();
        server.wait(secs(1)).await;
        assert_eq!((uses.left(), server.count("issue")), (left, 1));
    }
    uses.take_one();
    assert_eq!(current.changed().await.unwrap().generation().number(), 2);
    assert_eq!((server.count("issue"), server.count("renew")), (2, 0), "at once");
}

#[tokio::test(start_paused = true)]
async fn where_the_provider_has_no_other_its_uses_are_not_wasted_on_asking_for_one() {
    let server = Server::new(3600, 86_400);
    let uses = Uses::new(4);
    server.set(|state| (state.uses, state.version) = (Some(uses.clone()), Some("the same".to_owned())));
    let keeper = server.builder().start(server.clone()).await.unwrap();
    uses.take_one();
    uses.take_one();
    server.wait(secs(600)).await;
    assert_eq!(server.count("issue"), 2, "asked for once");
    assert_eq!(keeper.health().status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn denied_renewals_are_remembered_and_asked_for_once_in_each_lease() {
    let server = Server::new(3600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.faults.push(("renew", ErrorKind::Denied)));
    let mut current = keeper.current();
    current.changed().await.unwrap();
    let in_the_first = server.count("renew");
    assert!(in_the_first > 3, "an operator may mend it: {in_the_first}");
    for lease in 1..=3 {
        let last = current.get().unwrap();
        current.changed().await.unwrap();
        assert_eq!(server.count("renew"), in_the_first + lease);
        assert_eq!(keeper.health().status, Status::Healthy, "the policy is made that way");
        let left = server.clock.now().until(last.usable_until());
        assert!(left >= secs(60), "{left:?} to drain");
    }
    // Given back, it is used.
    server.set(|state| state.faults.clear());
    let (renewed, issued) = (server.count("renew"), server.count("issue"));
    server.wait(secs(5 * 3600)).await;
    assert!(server.count("renew") > renewed + 5);
    assert_eq!(server.count("issue"), issued);
}

#[tokio::test(start_paused = true)]
async fn with_no_time_to_drain_asked_for_there_is_still_time_for_a_successor() {
    let server = Server::new(60, 60);
    server.set(|state| state.renewable = false);
    let keeper = server.builder().drain_budget(Duration::ZERO).start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    for _ in 0..50 {
        let last = current.get().unwrap();
        current.changed().await.unwrap();
        let left = server.clock.now().until(last.usable_until());
        assert!(left >= secs(5), "{left:?} left");
    }
}
