//! What nothing uses any more is revoked, at a pace that the server and the policy set.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Server, error, secs};
use leasehold_core::{
    ErrorKind, Grant, Lease, Provider, Record, Renewed, Result, Revoked, Token, async_trait,
    clock::{Clock, TestClock, sleep_until},
};
use leasehold_renewal::Builder;

#[tokio::test(start_paused = true)]
async fn a_revocation_comes_no_sooner_than_the_server_asks() {
    let server = Server::new(600, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| {
        state.faults.push(("revoke", ErrorKind::RateLimited));
        state.retry_after = Some(secs(60));
    });
    server.wait(secs(2)).await;
    server.refuse(&keeper.current()).await;
    server.wait(secs(400)).await;
    let times = server.times("revoke");
    assert!(times.len() >= 4, "{} revocations", times.len());
    for pair in times.windows(2) {
        assert!(pair[0].until(pair[1]) >= secs(60), "{:?} apart", pair[0].until(pair[1]));
    }
}

#[tokio::test(start_paused = true)]
async fn one_lease_that_cannot_be_revoked_does_not_put_the_others_off() {
    for kind in [ErrorKind::Configuration, ErrorKind::Unexpected, ErrorKind::NotFound] {
        let server = Server::new(86_400, 864_000);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.set(|state| state.stuck.push(("lease/1", kind)));
        server.wait(secs(2)).await;
        server.refuse(&keeper.current()).await;
        // The one that is stuck has failed often by now, and waits for minutes.
        server.wait(secs(3600)).await;
        for outage in 1..9 {
            server.set(|state| state.faults.push(("revoke", ErrorKind::Unreachable)));
            server.refuse(&keeper.current()).await;
            server.wait(secs(600 + 7 * outage)).await;
            server.set(|state| state.faults.clear());
            server.wait(secs(65)).await;
            let current = keeper.current().get().unwrap().generation().number();
            assert_eq!(server.live_leases(), ["lease/1".to_owned(), format!("lease/{current}")], "{kind}");
        }
    }
}

/// Tokens that are revoked with themselves: the policy of each decides.
struct Tokens {
    clock: Arc<TestClock>,
    /// The generations whose token was asked to revoke itself.
    revoked: Mutex<Vec<u64>>,
}

#[async_trait]
impl Provider for &'static Tokens {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        Ok(Grant::new(Token::new("token".to_owned()).owned(true), Lease::new("", secs(100), false)))
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        Err(error(ErrorKind::NotRenewable))
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        let number = of.generation().number();
        self.revoked.lock().unwrap().push(number);
        if number == 1 { Err(error(ErrorKind::Denied)) } else { Ok(Revoked::Done) }
    }

    fn name(&self) -> String {
        "tokens".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_revoke_itself_does_not_keep_later_ones_from_it() {
    let tokens: &'static Tokens =
        Box::leak(Box::new(Tokens { clock: Arc::new(TestClock::new()), revoked: Mutex::default() }));
    let keeper = Builder::new().clock(tokens.clock.clone()).start(tokens).await.unwrap();
    sleep_until(&*tokens.clock, tokens.clock.now() + secs(1000)).await;
    let last = keeper.current().get().unwrap().generation().number();
    assert!(last > 5);
    assert_eq!(*tokens.revoked.lock().unwrap(), (1..last).collect::<Vec<_>>());
}
