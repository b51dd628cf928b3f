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
    /// Whether a successor is overdue: the last renewal or issue failed, or the next one is more than a second late.
    pub overdue: bool,
    /// How long it was issued for, of which [`is_ready`](Self::is_ready) takes a fifth at most.
    pub(crate) issued_for: Option<Duration>,
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
    /// Whether the secret works and its successor is not overdue: the answer for a readiness probe.
    ///
    /// An end that is planned for is no alarm, however near: a static role's password is replaced on every replica in the
    /// same second, and a short lease that cannot be renewed is replaced shortly before its end. The answer is false if the
    /// secret has ended; and `margin` before its end, if a renewal or an issue has failed or is late. An outage of Vault by
    /// itself changes nothing.
    ///
    /// `margin` should be the time that a load balancer needs to take the service out. A fifth of what the secret was
    /// issued for is the most that makes sense, and a longer margin is taken for that: the first attempt leaves two fifths,
    /// and half of these belong to further attempts.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use leasehold_core::{Error, ErrorKind, Grant, Lease, Party, Token, clock::{Clock, SystemClock}, publish};
    /// let mut channel = publish::channel("token", Arc::new(SystemClock));
    /// let lease = Lease::new("", Duration::from_secs(60), true);
    /// channel.publisher.publish(Grant::new(Token::new("hvs.x".to_owned()), lease), SystemClock.now());
    /// let generation = channel.current.get()?.generation();
    /// let margin = Duration::from_secs(10);
    /// assert!(channel.current.health().is_ready(margin));
    ///
    /// // Vault is down, and most of the minute is over.
    /// let record = channel.publisher.record().unwrap();
    /// channel.publisher.extend(&record, SystemClock.now() + Duration::from_secs(9));
    /// assert!(channel.current.health().is_ready(margin), "a renewal is planned");
    /// let error = Error::new(ErrorKind::Unreachable, Party::Vault, "connection refused");
    /// channel.publisher.failed(generation, error, Duration::from_secs(1));
    /// assert!(!channel.current.health().is_ready(margin), "and has failed");
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    pub fn is_ready(&self, margin: Duration) -> bool {
        let margin = self.issued_for.map_or(margin, |issued_for| margin.min(issued_for / 5));
        self.is_usable() && !(self.overdue && self.usable_for.is_some_and(|left| left <= margin))
    }

    /// Whether there is a secret that has not ended.
    pub fn is_usable(&self) -> bool {
        self.generation.is_some() && self.usable_for != Some(Duration::ZERO)
    }
}
