//! A keeper in a test's own hands.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, Event, EventKind, Generation, Grant, Lease,
    clock::{Clock, SystemClock},
    publish::{self, Channel},
};
use tokio::{sync::broadcast, time::timeout};

use super::{Failure, stage::HOUR};

/// Publishes what it is told, and waits for what a pool makes of it: for tests that need no Vault.
///
/// ```
/// use leasehold_testbed::conformance::Keeper;
///
/// let mut keeper = Keeper::with("v-first", "hunter2");
/// let pool_would_follow = keeper.current();
/// let second = keeper.publish("v-second", "hunter2", std::time::Duration::from_secs(3600));
/// assert_eq!(pool_would_follow.get().unwrap().generation(), second);
/// ```
#[derive(Debug)]
pub struct Keeper {
    /// What a keeper would hold: rejections and farewells arrive here.
    pub channel: Channel<Credentials>,
    /// What happened and was not waited for yet.
    pub events: broadcast::Receiver<Event>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self::new()
    }
}

impl Keeper {
    /// A keeper that has published nothing.
    pub fn new() -> Self {
        let channel = publish::channel("database/creds/test", Arc::new(SystemClock));
        let events = channel.current.events();
        Self { channel, events }
    }

    /// A keeper that has published these credentials for an hour.
    pub fn with(user: &str, password: &str) -> Self {
        let mut keeper = Self::new();
        keeper.publish(user, password, HOUR);
        keeper
    }

    /// Publishes credentials that end after `ttl`.
    pub fn publish(&mut self, user: &str, password: &str, ttl: Duration) -> Generation {
        let grant = Grant::new(Credentials::new(user, password.to_owned()), Lease::new("lease", ttl, true));
        self.channel.publisher.publish(grant, SystemClock.now());
        self.generation()
    }

    /// The generation published last; 0 before the first.
    pub fn generation(&self) -> Generation {
        self.channel.current.get().map_or(Generation::new(0), |issued| issued.generation())
    }

    /// What a pool follows.
    pub fn current(&self) -> Current<Credentials> {
        self.channel.current.clone()
    }

    /// Open connections by generation, as the pool counts them.
    pub fn connections(&self) -> Vec<(Generation, usize)> {
        self.channel.current.health().connections
    }

    /// Waits for an event of a generation that `pick` picks. Those before it are gone.
    ///
    /// # Errors
    /// If it does not come within twenty seconds.
    pub async fn event<T>(
        &mut self,
        of: Generation,
        pick: impl Fn(&EventKind) -> Option<T>,
    ) -> Result<T, Failure> {
        let picking = async {
            loop {
                let event = self.events.recv().await.map_err(|error| Failure(error.to_string()))?;
                if let Some(picked) = pick(&event.kind).filter(|_| event.generation == of) {
                    return Ok(picked);
                }
            }
        };
        let in_vain = |_| Err(Failure(format!("generation {of}: the event did not come")));
        timeout(PATIENCE, picking).await.unwrap_or_else(in_vain)
    }

    /// Waits until a pool has adopted this generation.
    ///
    /// # Errors
    /// As [`event`](Self::event).
    pub async fn adopted(&mut self, generation: Generation) -> Result<(), Failure> {
        self.event(generation, |kind| matches!(kind, EventKind::Adopted).then_some(())).await
    }

    /// Waits until a pool has retired this generation. Returns how many connections remained, if it can count them.
    ///
    /// # Errors
    /// As [`event`](Self::event).
    pub async fn retired(&mut self, generation: Generation) -> Result<Option<usize>, Failure> {
        self.event(generation, retired).await
    }

    /// Waits until a generation is rejected, and returns which.
    ///
    /// # Errors
    /// If none is within twenty seconds.
    pub async fn rejected(&mut self) -> Result<Generation, Failure> {
        match timeout(PATIENCE, self.channel.rejections.recv()).await {
            Ok(rejection) => Ok(rejection.generation),
            Err(_) => Err(Failure("nothing was rejected".to_owned())),
        }
    }
}

/// How many connections remained, if this is the end of a retirement.
pub(super) fn retired(kind: &EventKind) -> Option<Option<usize>> {
    match kind {
        EventKind::Retired { remaining } => Some(*remaining),
        _ => None,
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
