//! What those share who rotate a pool by hand: a task, and a hook that it has refuse what is old.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
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

/// What such a pool's manager connects with.
#[derive(Debug)]
pub(super) struct Newest<T> {
    value: RwLock<T>,
    switch: Arc<Switch>,
}

impl<T: Clone + Send + Sync + 'static> Newest<T> {
    /// Made of what is current, and made anew with each new value.
    pub(super) fn following(
        current: Current<Credentials>,
        make: impl Fn(&Credentials) -> T + Send + 'static,
    ) -> Result<Arc<Self>> {
        let switch = Switch::new();
        let value = RwLock::new(make(current.get()?.secret()));
        let newest = Arc::new(Self { value, switch: Arc::clone(&switch) });
        let changed = Arc::clone(&newest);
        switch.follow(current, move |credentials| {
            *changed.value.write().unwrap_or_else(PoisonError::into_inner) = make(credentials);
        });
        Ok(newest)
    }

    pub(super) fn get(&self) -> T {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Switch::is_stale`].
    pub(super) fn is_stale(&self, age: Duration) -> bool {
        self.switch.is_stale(age)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
