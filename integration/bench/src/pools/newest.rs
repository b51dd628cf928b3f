//! What those share who rotate a pool by hand: a task, and a hook that it has refuse what is old.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use leasehold_core::{Credentials, Current};
use tokio::time::Instant;

/// When the credentials changed last.
#[derive(Debug)]
pub(super) struct Switch {
    zero: Instant,
    /// In nanoseconds since `zero`; before everything until they change.
    at: AtomicU64,
}

impl Switch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { zero: Instant::now(), at: AtomicU64::new(0) })
    }

    /// Whether a connection of this age was opened with older credentials.
    pub(super) fn is_stale(&self, age: Duration) -> bool {
        nanos(self.zero.elapsed().saturating_sub(age)) < self.at.load(Ordering::Acquire)
    }

    /// Hands the pool each new value, until nobody publishes any more.
    pub(super) fn follow(
        self: Arc<Self>,
        mut current: Current<Credentials>,
        hand_over: impl Fn(&Credentials) + Send + 'static,
    ) {
        tokio::spawn(async move {
            while let Ok(issued) = current.changed().await {
                hand_over(issued.secret());
                self.at.store(nanos(self.zero.elapsed()), Ordering::Release);
            }
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
