//! Those around the keeper misbehave.

#![expect(clippy::panic, reason = "a provider that does")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Server, secs};
use leasehold_core::{
    ErrorKind, EventKind, Grant, Provider, Record, Renewed, Result, Revoked, Status, Token, async_trait,
    clock::Clock,
};

/// Panics at the first renewal.
struct Panics(Server);

#[async_trait]
impl Provider for Panics {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.0.issue().await
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        panic!("as somebody's provider might")
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.0.revoke(of).await
    }

    fn name(&self) -> String {
        "panics".to_owned()
    }
}

struct PanicsAtOnce;

#[async_trait]
impl Provider for PanicsAtOnce {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        panic!("as somebody's provider might")
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        unreachable!()
    }

    async fn revoke(&self, _: &Record<Token>) -> Result<Revoked> {
        unreachable!()
    }

    fn name(&self) -> String {
        "panics".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_has_failed_and_is_asked_for_a_successor_in_time() {
    let server = Server::new(60, 3600);
    let keeper = server.builder().start(Panics(server.clone())).await.unwrap();
    let mut current = keeper.current();
    let first = current.get().unwrap();
    server.wait(secs(36)).await;
    let Status::Degraded { error, .. } = keeper.health().status else { panic!("{:?}", keeper.health()) };
    assert!(error.kind() == ErrorKind::Unexpected && error.message().contains("panicked"), "{error}");
    current.changed().await.unwrap();
    assert!(server.clock.now() < first.usable_until(), "in time");
    assert_eq!(keeper.health().status, Status::Healthy);
    drop((first, current));
    keeper.shutdown().await.unwrap();
    assert_eq!(server.live_leases(), [""; 0], "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_at_the_start_fails_the_start() {
    let server = Server::new(60, 3600);
    let error = server.builder().start(PanicsAtOnce).await.unwrap_err();
    assert!(error.message().contains("panicked"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_listens_and_a_census_that_owns_a_handle_harm_nothing() {
    let server = Server::new(6, 15);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let _deaf = keeper.events();
    let current = keeper.current();
    let owned = current.clone();
    current.count_connections_with(move || {
        owned.get().map(|issued| vec![(issued.generation(), 3)]).unwrap_or_default()
    });
    assert_eq!(keeper.health().connections.first().map(|entry| entry.1), Some(3));
    current.count_connections_with(Vec::new);
    drop(current);
    server.wait(secs(3600)).await;
    assert!(keeper.health().is_usable());
    assert!(keeper.health().connections.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_trouble_of_one_pool_is_not_over_because_another_is_well() {
    let server = Server::new(600, 3600);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let (bad, good) = (keeper.current(), keeper.current());
    let generation = bad.get().unwrap().generation();
    bad.report(
        generation,
        EventKind::Failed { error: common::error(ErrorKind::DatabaseUnavailable), retry_in: secs(1) },
    );
    good.report(generation, EventKind::Adopted);
    assert!(matches!(keeper.health().status, Status::Degraded { .. }));
    drop(bad);
    assert_eq!(keeper.health().status, Status::Healthy, "a pool that is gone has no trouble");
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_harms_only_itself() {
    let server = Server::new(6, 15);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut events = keeper.events();
    let listener = tokio::spawn(async move {
        let event = events.recv().await;
        panic!("as somebody's listener might at {event:?}")
    });
    assert!(listener.await.unwrap_err().is_panic());
    let mut current = keeper.current();
    for _ in 0..3 {
        current.changed().await.unwrap();
    }
    assert_eq!(keeper.health().status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_census_that_panics_harms_no_renewal() {
    let server = Server::new(6, 15);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let pool = keeper.current();
    pool.count_connections_with(|| panic!("as somebody's census might"));
    let mut current = keeper.current();
    for _ in 0..3 {
        let _ = catch_unwind(AssertUnwindSafe(|| keeper.health()));
        current.changed().await.unwrap();
    }
    drop(pool);
    assert_eq!(keeper.health().status, Status::Healthy, "it went with its pool");
    drop(current);
    keeper.shutdown().await.unwrap();
    assert_eq!(server.live_leases(), [""; 0]);
}
