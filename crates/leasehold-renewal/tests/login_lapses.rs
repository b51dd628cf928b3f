//! A token's renewal may depend on the JWT that it was logged in with (OpenBao from 2.6.4 and 2.7.1 on).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{Server, secs};
use leasehold_core::{
    ErrorKind, Grant, Provider, Record, Renewed, Result, Revoked, Status, Token, async_trait, clock::Clock,
};
use leasehold_renewal::StartPolicy;

#[tokio::test(start_paused = true)]
async fn a_token_whose_login_has_lapsed_is_succeeded_at_once() {
    let server = Server::new(7200, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.faults.push(("renew", ErrorKind::LoginLapsed)));
    keeper.current().changed().await.unwrap();
    let refused = server.state.lock().unwrap().requests.iter().find(|(_, what)| *what == "renew").unwrap().0;
    assert!(refused.until(server.clock.now()) <= secs(1), "a login at once");
    server.wait(secs(60)).await;
    assert_eq!((server.count("renew"), server.count("issue")), (1, 2));
    assert_eq!(keeper.health().status, Status::Healthy);
}

/// A login with a JWT that the server looks at again for 25 seconds, which end before any renewal is due.
struct Lapses(Server);

#[async_trait]
impl Provider for Lapses {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let grant = self.0.issue().await?;
        let lease = grant.lease.clone().with_renewals_for(Some(secs(25)));
        Ok(Grant { lease, ..grant })
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.0.renew(of).await
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.0.revoke(of).await
    }

    fn name(&self) -> String {
        "lapses".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_sure_to_be_refused_is_not_tried() {
    let server = Server::new(120, 86_400);
    let keeper = server.builder().start(Lapses(server.clone())).await.unwrap();
    server.set(|state| state.faults.push(("renew", ErrorKind::LoginLapsed)));
    for _ in 0..600 {
        assert_eq!(keeper.health().status, Status::Healthy);
        server.wait(secs(1)).await;
    }
    assert_eq!(server.count("renew"), 0, "a new login instead");
    assert!((4..20).contains(&server.count("issue")), "{} logins in ten minutes", server.count("issue"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_may_pass_is_waited_for_within_the_bound_of_the_start() {
    let server = Server::new(60, 120);
    server.set(|state| state.down = Some(ErrorKind::LoginDoubtful));
    let begun = server.clock.now();
    let policy = StartPolicy::WaitUpTo(secs(30));
    let start = tokio::spawn(server.builder().start_policy(policy).start(server.clone()));
    server.wait(secs(20)).await;
    server.set(|state| state.down = None);
    start.await.unwrap().unwrap();
    assert!(begun.until(server.clock.now()) <= secs(30));

    server.set(|state| state.down = Some(ErrorKind::LoginDoubtful));
    let begun = server.clock.now();
    let error = server.builder().start_policy(policy).start(server.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginDoubtful);
    let took = begun.until(server.clock.now());
    assert!((secs(25)..=secs(31)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn once_the_token_has_ended_a_refusal_that_may_pass_is_tried_every_ten_seconds() {
    let server = Server::new(3600, 3600);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.down = Some(ErrorKind::LoginDoubtful));
    while keeper.health().is_usable() {
        server.wait(secs(10)).await;
    }
    server.wait(secs(1200)).await;
    server.set(|state| state.down = None);
    let back = server.clock.now();
    keeper.current().changed().await.unwrap();
    assert!(back.until(server.clock.now()) <= secs(10));
}
