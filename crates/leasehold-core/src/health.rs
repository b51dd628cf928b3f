//! The state of a secret at a glance.

use std::time::Duration;

use crate::{Error, Generation};

/// A snapshot of one secret, cheap enough for a readiness probe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Whether requests succeed.
    pub status: Status,
    /// The generation that [`Current::get`](crate::Current::get) hands out; `None` before the first.
    pub generation: Option<Generation>,
    /// How long it is still usable: `None` if it does not end, zero if it has ended or does not exist yet.
    pub usable_for: Option<Duration>,
    /// Open connections by generation, oldest first, as far as pools report them.
    pub connections: Vec<(Generation, usize)>,
}

/// Whether requests succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The last request succeeded.
    Healthy,
    /// Requests fail. What is in use goes on working until it ends.
    Degraded {
        /// How long they have been failing.
        since: Duration,
        /// The last failure.
        error: Error,
    },
}

impl Health {
    /// Whether the secret will still be usable for longer than `margin`: what a readiness probe should answer. It turns
    /// false that much before new connections are refused, and only when successors could not be issued: an outage of
    /// Vault by itself changes nothing.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use leasehold_core::{Grant, Lease, Token, clock::{Clock, SystemClock}, publish};
    /// let mut channel = publish::channel("token", Arc::new(SystemClock));
    /// let lease = Lease::new("", Duration::from_secs(60), true);
    /// channel.publisher.publish(Grant::new(Token::new("hvs.x".to_owned()), lease), SystemClock.now());
    /// assert!(channel.current.health().is_ready(Duration::from_secs(10)));
    /// assert!(!channel.current.health().is_ready(Duration::from_secs(90)));
    /// ```
    pub fn is_ready(&self, margin: Duration) -> bool {
        self.is_usable() && self.usable_for.is_none_or(|left| left > margin)
    }

    /// Whether there is a secret that has not ended.
    pub fn is_usable(&self) -> bool {
        self.generation.is_some() && self.usable_for != Some(Duration::ZERO)
    }
}
