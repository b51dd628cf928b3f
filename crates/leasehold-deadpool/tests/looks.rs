//! What it costs a pool that the rotation looks at its idle connections, which the README tells.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{PoolConfig, QueueMode};
use leasehold_core::{
    Credentials, Grant, Lease, Result,
    clock::{Clock, SystemClock, sleep_until},
    publish::{self, Channel},
};
use leasehold_deadpool::{Connect, Manager, Pool, Settings, build};

/// A database that counts what it is asked.
#[derive(Clone, Default)]
struct Scripted {
    checks: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
}

impl Connect for Scripted {
    type Connection = ();

    async fn connect(&self, _: &Credentials) -> Result<()> {
        Ok(())
    }

    async fn check(&self, _: &mut ()) -> Result<()> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn ask(&self, _: &mut ()) -> Result<()> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Stage {
    channel: Channel<Credentials>,
    database: Scripted,
    pool: Pool<Scripted>,
}

impl Stage {
    /// A full pool of four.
    async fn with(mode: QueueMode, ask_every: Option<Duration>) -> Self {
        let mut channel = publish::channel("database/creds/test", Arc::new(SystemClock));
        publish(&mut channel, "old");
        let database = Scripted::default();
        let manager = Manager::new(database.clone(), channel.current.clone()).unwrap();
        let config = PoolConfig { queue_mode: mode, ..PoolConfig::new(4) };
        let builder = deadpool::managed::Pool::builder(manager).config(config);
        let pool = build(builder, Settings { ask_every, ..Settings::default() }).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(pool.get().await.unwrap());
        }
        drop(held);
        database.checks.store(0, Ordering::Relaxed);
        Self { channel, database, pool }
    }

    /// How many of the idle connections were looked at since they were last used.
    fn looked_at(&self) -> usize {
        let mut looked_at = 0;
        // The first was checked out once more than the others.
        self.pool.retain(|_, metrics| {
            looked_at += usize::from(metrics.recycle_count > 1);
            true
        });
        looked_at
    }

    async fn asked(&self, times: usize) {
        while self.database.questions.load(Ordering::Relaxed) < times {
            pass(Duration::from_millis(5)).await;
        }
    }
}

fn publish(channel: &mut Channel<Credentials>, user: &str) {
    let lease = Lease::new("lease", Duration::from_secs(3600), true);
    channel.publisher.publish(Grant::new(Credentials::new(user, "p".to_owned()), lease), SystemClock.now());
}

async fn pass(time: Duration) {
    sleep_until(&SystemClock, SystemClock.now() + time).await;
}

#[tokio::test]
async fn the_same_connection_is_asked_in_a_pool_that_hands_out_the_last() {
    let stage = Stage::with(QueueMode::Lifo, Some(Duration::from_millis(10))).await;
    stage.asked(12).await;
    assert!(stage.looked_at() <= 1, "{} were looked at", stage.looked_at());
    assert_eq!(stage.database.checks.load(Ordering::Relaxed), 0, "a look asks the database nothing");
}

#[tokio::test]
async fn each_is_asked_in_turn_in_a_pool_that_hands_out_the_first() {
    let stage = Stage::with(QueueMode::Fifo, Some(Duration::from_millis(10))).await;
    stage.asked(12).await;
    assert!(stage.looked_at() >= 3, "{} were looked at", stage.looked_at());
    assert_eq!(stage.database.checks.load(Ordering::Relaxed), 0, "a look asks the database nothing");
}

#[tokio::test]
async fn nothing_is_looked_at_but_to_exchange_it() {
    for mode in [QueueMode::Fifo, QueueMode::Lifo] {
        let mut stage = Stage::with(mode, None).await;
        pass(Duration::from_millis(200)).await;
        assert_eq!(stage.looked_at(), 0);
        let borrowed = stage.pool.get().await.unwrap();
        publish(&mut stage.channel, "new");
        let newest = stage.channel.current.get().unwrap().generation();
        let remains = |count| stage.channel.current.health().connections.contains(&(newest, count));
        while !remains(3) {
            pass(Duration::from_millis(5)).await;
        }
        // One is old still, and is not idle.
        let looks = total(&stage.pool);
        pass(Duration::from_millis(500)).await;
        assert_eq!(total(&stage.pool), looks, "{mode:?}: idle connections are looked at for nothing");
        drop(borrowed);
    }
}

/// How often all of them were checked out.
fn total(pool: &Pool<Scripted>) -> usize {
    let mut total = 0;
    pool.retain(|_, metrics| {
        total += metrics.recycle_count;
        true
    });
    total
}
