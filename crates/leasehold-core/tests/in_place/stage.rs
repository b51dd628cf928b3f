//! A pool, its rotation, and a keeper that publishes what it is told.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, ErrorKind, EventKind, Generation, Grant, Issued, Lease, Result, Rotate,
    clock::{Clock, Moment, TestClock, sleep_until},
    in_place::{InForce, InPlace, Settings},
    publish::{self, Channel},
};
use tokio::sync::broadcast;

use crate::pool::{Pool, Slot};

pub(crate) struct Stage {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) channel: Channel<Credentials>,
    pub(crate) in_force: Arc<InForce>,
    pub(crate) pool: Pool,
    pub(crate) rotation: InPlace<Pool>,
    /// The first generation.
    pub(crate) first: Arc<Issued<Credentials>>,
    events: broadcast::Receiver<leasehold_core::Event>,
}

impl Stage {
    /// A full pool of the first generation, which lasts an hour.
    pub(crate) fn of(size: usize) -> Self {
        Self::with(size, HOUR, Settings::default())
    }

    pub(crate) fn with(size: usize, ttl: Duration, settings: Settings) -> Self {
        let clock = Arc::new(TestClock::new());
        let mut channel = publish::channel("database/creds/pipeline", clock.clone());
        let events = channel.current.events();
        let first = issue(&mut channel, &clock, "first", ttl);
        let in_force = InForce::new(Arc::clone(&first), clock.clone());
        let pool = Pool::full(size, Arc::clone(&clock), Arc::clone(&in_force));
        let rotation = InPlace::new(pool.clone(), Arc::clone(&in_force), channel.current.clone(), settings);
        Self { clock, channel, in_force, pool, rotation, first, events }
    }

    /// Publishes credentials for an hour.
    pub(crate) fn issue(&mut self, user: &str) -> Arc<Issued<Credentials>> {
        issue(&mut self.channel, &self.clock, user, HOUR)
    }

    /// Publishes credentials and has them adopted.
    pub(crate) async fn adopted(&mut self, user: &str) -> Arc<Issued<Credentials>> {
        let next = self.issue(user);
        self.rotation.adopt(&next).await.unwrap();
        next
    }

    /// Retires the first generation, and returns how many of its connections are left.
    pub(crate) async fn retire(&self) -> usize {
        self.rotation.retire(&self.first).await.remaining.unwrap()
    }

    pub(crate) async fn pass(&self, time: Duration) {
        sleep_until(&*self.clock, self.clock.now() + time).await;
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn borrow_all(&self, count: usize) -> Vec<Slot> {
        (0..count).map(|_| self.pool.borrow()).collect()
    }

    /// The generation in force.
    pub(crate) fn in_force(&self) -> u64 {
        self.in_force.get().unwrap().generation().number()
    }

    /// What the keeper was told to be refused since it was last asked.
    pub(crate) fn rejections(&mut self) -> Vec<(u64, ErrorKind)> {
        let mut told = Vec::new();
        while let Some(rejection) = self.channel.rejections.try_recv() {
            told.push((rejection.generation.number(), rejection.cause));
        }
        told
    }

    /// What was reported of a generation since it was last asked.
    pub(crate) fn reported(&mut self, of: Generation) -> Vec<EventKind> {
        let mut reported = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if event.generation == of {
                reported.push(event.kind);
            }
        }
        reported
    }
}

fn issue(
    channel: &mut Channel<Credentials>,
    clock: &TestClock,
    user: &str,
    ttl: Duration,
) -> Arc<Issued<Credentials>> {
    let grant = Grant::new(Credentials::new(user, "p".to_owned()), Lease::new("lease", ttl, true));
    channel.publisher.publish(grant, clock.now());
    channel.current.get().unwrap()
}

/// The kind of failure.
pub(crate) fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const HOUR: Duration = secs(3600);
