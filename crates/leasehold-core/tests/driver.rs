//! What joins a secret to a pool, while the pool's database fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use leasehold_core::{
    Credentials, Error, ErrorKind, Grant, Issued, Lease, Party, Result, Retired, Rotate, Status, async_trait,
    clock::{Clock, TestClock, sleep_until},
    drive,
    publish::{self, Channel},
};

#[derive(Default)]
struct Pool {
    down: AtomicBool,
    attempts: AtomicU64,
    /// The generation it opens connections with, and how many it has retired.
    adopted: AtomicU64,
    retired: AtomicU64,
}

#[async_trait]
impl Rotate for Pool {
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::DatabaseUnavailable, Party::Database, "too many clients"));
        }
        self.adopted.store(next.generation().number(), Ordering::Relaxed);
        Ok(())
    }

    async fn retire(&self, _: &Arc<Issued<Credentials>>) -> Retired {
        self.retired.fetch_add(1, Ordering::Relaxed);
        Retired { remaining: Some(0) }
    }
}

fn issue(channel: &mut Channel<Credentials>, clock: &TestClock) {
    let lease = Lease::new("lease", Duration::from_secs(86_400), true);
    channel
        .publisher
        .publish(Grant::new(Credentials::new("name", "password".to_owned()), lease), clock.now());
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_refutes_nothing_and_retires_nothing() {
    let clock = Arc::new(TestClock::new());
    let wait = async |secs| sleep_until(&*clock, clock.now() + Duration::from_secs(secs)).await;
    let mut channel = publish::channel("database/creds/pipeline", clock.clone());
    issue(&mut channel, &clock);
    let (current, pool) = (channel.current.clone(), Arc::new(Pool::default()));
    let (in_force, rotating) = (current.get().unwrap(), Arc::clone(&pool));
    tokio::spawn(async move { drive(current, in_force, &*rotating).await });

    pool.down.store(true, Ordering::Relaxed);
    issue(&mut channel, &clock);
    wait(600).await;
    let attempts = pool.attempts.load(Ordering::Relaxed);
    assert!((30..150).contains(&attempts), "{attempts} attempts in ten minutes");
    assert!(channel.rejections.try_recv().is_none(), "nothing is rejected");
    assert!(channel.farewells.try_recv().is_none(), "the generation before is in use");
    assert_eq!((pool.adopted.load(Ordering::Relaxed), pool.retired.load(Ordering::Relaxed)), (0, 0));
    let Status::Degraded { since, error } = channel.current.health().status else {
        unreachable!("it is said")
    };
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable);
    assert!(since > Duration::from_secs(590), "{since:?}");

    // A newer one while it is away takes the place of the one that could not be adopted.
    issue(&mut channel, &clock);
    wait(60).await;
    assert_eq!(channel.farewells.try_recv().unwrap().generation().number(), 2, "nobody uses it");

    pool.down.store(false, Ordering::Relaxed);
    wait(15).await;
    assert_eq!((pool.adopted.load(Ordering::Relaxed), pool.retired.load(Ordering::Relaxed)), (3, 1));
    assert_eq!(channel.farewells.try_recv().unwrap().generation().number(), 1, "let go of");
    assert_eq!(channel.current.health().status, Status::Healthy);
    assert!(channel.rejections.try_recv().is_none(), "nothing is rejected");
}
