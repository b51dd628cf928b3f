//! Those around the keeper misbehave.

#![expect(clippy::panic, reason = "a provider that does")]

mod common;

use common::{Server, secs};
use leasehold_core::{
    ErrorKind, EventKind, Grant, Provider, Record, Renewed, Result, Revoked, Status, Token, async_trait,
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

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_is_seen_in_the_health() {
    let server = Server::new(60, 3600);
    let keeper = server.builder().start(Panics(server.clone())).await.unwrap();
    assert_eq!(keeper.health().status, Status::Healthy);
    server.wait(secs(40)).await;
    assert!(matches!(keeper.health().status, Status::Degraded { .. }), "{:?}", keeper.health());
    assert!(keeper.shutdown().await.is_err());
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
