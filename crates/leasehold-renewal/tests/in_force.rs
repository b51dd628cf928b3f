//! A lease, a token or a user that is in force is never revoked, and never taken for a successor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Server, secs};
use leasehold_core::{
    ErrorKind, Grant, Lease, Provider, Record, Renewed, Result, Revoked, Status, Token, async_trait,
    clock::Clock as _,
};

/// A server behind a cache that answers an issue with the grant it has, while it is told to.
#[derive(Clone)]
struct Cached {
    server: Server,
    held: Arc<std::sync::Mutex<Option<String>>>,
    user: Option<&'static str>,
}

impl Cached {
    fn new(server: Server) -> Self {
        Self { server, held: Arc::default(), user: None }
    }

    /// Every user is named alike, as with a `username_template` that is too simple.
    fn one_user(server: Server) -> Self {
        Self { user: Some("pipeline"), ..Self::new(server) }
    }

    fn hold(&self, id: Option<&str>) {
        *self.held.lock().unwrap() = id.map(str::to_owned);
    }
}

#[async_trait]
impl Provider for Cached {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let held = self.held.lock().unwrap().clone();
        let grant = match held {
            Some(id) => Grant::new(Token::new("held".to_owned()), Lease::new(id, secs(600), true)),
            None => self.server.issue().await?,
        };
        let subject = self.user.map_or_else(|| grant.lease.id().to_owned(), str::to_owned);
        Ok(Grant { lease: grant.lease.naming(&subject), ..grant })
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.server.renew(of).await
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.server.revoke(of).await
    }

    fn name(&self) -> String {
        "cached".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_answers_with_the_lease_in_force_gives_no_successor_and_ends_nothing() {
    let server = Server::new(600, 86_400);
    let cached = Cached::new(server.clone());
    let keeper = server.builder().start(cached.clone()).await.unwrap();
    let first = keeper.current().get().unwrap();
    cached.hold(Some(first.lease().id()));
    keeper.current().reject(first.generation(), ErrorKind::DeadToken);
    server.wait(secs(30)).await;
    keeper.current().reject(first.generation(), ErrorKind::DeadToken);
    server.wait(secs(30)).await;
    assert_eq!(keeper.current().get().unwrap().generation(), first.generation(), "no successor");
    let Status::Degraded { error, .. } = keeper.health().status else { panic!("{:?}", keeper.health()) };
    assert!(error.message().contains("cache"), "{error}");
    drop(first);
    server.wait(secs(60)).await;
    assert_eq!((server.count("revoke"), server.live_leases().len()), (0, 1), "the lease in force lives");

    cached.hold(None);
    let mut current = keeper.current();
    current.changed().await.unwrap();
    server.wait(secs(60)).await;
    assert_eq!(server.live_leases(), ["lease/2"], "the one before is revoked as ever");
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_user_is_in_force_again_is_left_to_its_end() {
    let server = Server::new(600, 900);
    let keeper = server.builder().start(Cached::one_user(server.clone())).await.unwrap();
    let mut current = keeper.current();
    for _ in 0..3 {
        current.changed().await.unwrap();
    }
    server.wait(secs(10)).await;
    assert_eq!(server.count("revoke"), 0, "revoking would drop the user in force");
    drop(current);
    keeper.shutdown().await.unwrap();
    assert!(server.count("revoke") > 0, "nothing is in force any more");
    assert!(server.clock.now().as_nanos() > Duration::from_secs(900).as_nanos() as u64);
}
