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
    /// Whether a service that depends on the secret can do its work: there is one, and it has not ended. It turns
    /// false only when new connections must fail; watch [`status`](Self::status) to know before.
    pub fn is_usable(&self) -> bool {
        self.generation.is_some() && self.usable_for != Some(Duration::ZERO)
    }
}
