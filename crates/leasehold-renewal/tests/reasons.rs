//! Several reasons to replace a secret hold at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{
    future::pending,
    sync::atomic::{AtomicU32, Ordering},
};

use common::{Announces, Server, secs};
use leasehold_core::{
    ErrorKind, Grant, Provider, Record, Renewed, Result, Revoked, Token, async_trait, clock::Clock,
};

/// Has another secret from the moment at which the token above has a successor, and says so whenever it is asked.
struct Follows {
    leases: Server,
    looks: AtomicU32,
}

/// More often than this nobody needs to look: the keeper spins, and a paused clock would stand still for ever.
const SPINS: u32 = 1000;

#[async_trait]
impl Provider for &'static Follows {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.leases.issue().await
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.leases.renew(of).await
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.leases.revoke(of).await
    }

    async fn changed(&self, of: &Record<Token>) {
        of.parent().unwrap().superseded().await;
        if self.looks.fetch_add(1, Ordering::Relaxed) > SPINS {
            pending().await
        }
    }

    fn name(&self) -> String {
        "follows".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_successor_of_the_token_that_the_provider_announces_too_is_acted_on_at_once() {
    let tokens = Server::new(3600, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    let follows: &'static Follows =
        Box::leak(Box::new(Follows { leases: leases.clone(), looks: AtomicU32::new(0) }));
    let login = leases.builder().start(follows).await.unwrap();
    let mut current = login.current();
    tokens.wait(secs(2)).await;
    let was = tokens.clock.now();
    token.current().reject(token.current().get().unwrap().generation(), ErrorKind::DeadToken);
    let next = current.changed().await.unwrap();
    let looks = follows.looks.load(Ordering::Relaxed);
    assert!(looks < 10, "it looked {looks} times before it acted");
    assert_eq!(next.parent().unwrap().generation().number(), 2);
    assert!(was.until(tokens.clock.now()) < secs(1));
    assert_eq!(leases.count("issue"), 2, "one issue for both reasons");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_announced_to_be_replaced_can_still_be_found_dead() {
    let server = Server::new(3600, 864_000);
    let announces = Announces::new(&server);
    let news = announces.news.clone();
    let keeper = server.builder().start(announces).await.unwrap();
    server.set(|state| state.faults.push(("issue", ErrorKind::LoginRefused)));
    server.wait(secs(10)).await;
    news.notify_one();
    server.wait(secs(10)).await;
    assert!(keeper.health().is_usable(), "its successor is refused, and it still works");
    keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::DeadToken);
    server.wait(secs(5)).await;
    assert!(!keeper.health().is_usable(), "{:?}", keeper.health());
}

#[tokio::test(start_paused = true)]
async fn an_announcement_does_not_make_a_dead_token_live() {
    let server = Server::new(3600, 864_000);
    let announces = Announces::new(&server);
    let news = announces.news.clone();
    let keeper = server.builder().start(announces).await.unwrap();
    server.set(|state| state.faults.push(("issue", ErrorKind::Unreachable)));
    server.wait(secs(10)).await;
    keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::DeadToken);
    server.wait(secs(10)).await;
    assert!(keeper.health().is_usable(), "the login was not answered yet");
    news.notify_one();
    server.set(|state| state.faults = vec![("issue", ErrorKind::LoginRefused)]);
    server.wait(secs(60)).await;
    assert!(!keeper.health().is_usable(), "{:?}", keeper.health());
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_own_renewal_finds_it_dead_ends_at_once_and_what_hangs_below_it() {
    // Refused as a login is, and as a token that was given, or that stands in a file, is.
    for refused in [ErrorKind::LoginRefused, ErrorKind::DeadToken] {
        let tokens = Server::new(3600, 864_000);
        let token = tokens.builder().start(tokens.clone()).await.unwrap();
        let leases = Server::new(3600, 864_000).under(token.current(), &tokens.clock);
        let login = leases.builder().start(leases.clone()).await.unwrap();
        tokens.set(|state| state.faults = vec![("renew", ErrorKind::DeadToken), ("issue", refused)]);
        leases.set(|state| state.hangs.push("renew"));
        tokens.until("renew", 1).await;
        tokens.wait(secs(5)).await;
        assert!(!token.health().is_usable(), "{refused}: {:?}", token.health());
        assert!(!login.health().is_usable(), "{refused}: {:?}", login.health());
    }
}
