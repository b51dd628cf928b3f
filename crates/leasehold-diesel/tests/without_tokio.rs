//! A program of ordinary threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use common::{Load, Server, user_of};
use leasehold_core::{
    Credentials, Grant, Lease, Provider, Record, Renewed, Result, Revoked, async_trait,
    clock::{Clock, SystemClock},
};
use leasehold_renewal::blocking::Runtime;

/// Credentials that cannot be renewed, so that each is replaced before its end.
struct Users {
    names: Vec<String>,
    issued: AtomicUsize,
    revoked: Arc<AtomicUsize>,
}

#[async_trait]
impl Provider for Users {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        let next = self.issued.fetch_add(1, Ordering::Relaxed).min(self.names.len() - 1);
        let ttl = if next == 0 { Duration::from_secs(4) } else { Duration::from_secs(3600) };
        let credentials = Credentials::new(&self.names[next], "p".to_owned());
        Ok(Grant::new(credentials, Lease::new(format!("lease-{next}"), ttl, false)))
    }

    async fn renew(&self, _: &Record<Credentials>) -> Result<Renewed> {
        unreachable!("it is not renewable")
    }

    async fn revoke(&self, _: &Record<Credentials>) -> Result<Revoked> {
        self.revoked.fetch_add(1, Ordering::Relaxed);
        Ok(Revoked::Done)
    }

    fn name(&self) -> String {
        "database/creds/test".to_owned()
    }
}

#[test]
fn a_program_without_tokio_rotates() {
    let testbed = tokio::runtime::Runtime::new().unwrap(); // the servers', and nothing else's
    let server = testbed.block_on(Server::shared());
    let names = vec![testbed.block_on(server.role("sync", "p")), testbed.block_on(server.role("sync", "p"))];
    let (old, new) = (names[0].clone(), names[1].clone());
    let revoked = Arc::new(AtomicUsize::new(0));

    let runtime = Runtime::start().unwrap();
    let users = Users { names, issued: AtomicUsize::new(0), revoked: Arc::clone(&revoked) };
    let login = runtime.keep(users).unwrap();
    let builder = server.postgres().pool(|pool| pool.max_size(4));
    let (pool, rotation) =
        builder.connect_blocking(login.current(), |rotation| runtime.spawn(rotation)).unwrap();
    assert_eq!(user_of(&mut pool.get().unwrap()), old);
    let load = Load::start(&pool, 2, Duration::from_millis(5));
    until(|| testbed.block_on(server.sessions(&new)) == 4 && revoked.load(Ordering::Relaxed) == 1);
    assert_eq!(testbed.block_on(server.sessions(&old)), 0, "it was revoked when nobody used it any more");
    let calls = load.stop();
    calls.print("without tokio");
    assert_eq!(calls.failures, [""; 0]);
    assert!(!rotation.has_ended());
    drop((rotation, pool));
    login.shutdown().unwrap();
    assert_eq!(revoked.load(Ordering::Relaxed), 2);
    testbed.block_on(server.wait_for_sessions(&new, 0));
}

fn until(done: impl Fn() -> bool) {
    let started = SystemClock.now();
    while !done() {
        assert!(started.until(SystemClock.now()) < Duration::from_secs(20), "it did not come");
        thread::sleep(Duration::from_millis(20));
    }
}
