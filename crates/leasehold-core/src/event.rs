//! What happens to a secret, as it happens.

use std::{sync::Arc, time::Duration};

use crate::{Error, ErrorKind, Generation};

/// Something that happened to one generation of one secret. Nothing in it is secret.
#[derive(Clone, Debug)]
pub struct Event {
    /// The name of the secret, as its provider gives it: `database/creds/pipeline`.
    pub secret: Arc<str>,
    /// The generation it happened to; 0 before the first.
    pub generation: Generation,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// The server issued it; it is usable for this long unless renewed.
    Issued {
        /// Until the end of the lease or of its token, whichever comes first; `None` if it does not end.
        usable_for: Option<Duration>,
    },
    /// The server extended it.
    Renewed {
        /// What was granted, from now.
        ttl: Duration,
        /// Whether less was granted than asked: max TTL is near, and a successor is on its way.
        truncated: bool,
    },
    /// It has a successor.
    Superseded,
    /// A pool opens its connections with it from now on.
    Adopted,
    /// A pool is letting its connections go.
    Retiring {
        /// How many are still open.
        remaining: usize,
    },
    /// A pool has let its connections go.
    Retired {
        /// How many are still open, all the same; `None` if the pool cannot count them.
        remaining: Option<usize>,
    },
    /// The server revoked it, or it goes with its token because the policy allows no more.
    Revoked {
        /// Whether it was revoked by itself.
        alone: bool,
    },
    /// The server was to replace it so long ago, and answers with the same again: the password of a static role that is no
    /// longer rotated. It goes on working.
    NotRotated {
        /// How long ago the server was to replace it.
        overdue: Duration,
    },
    /// A user of it reports that it is refused.
    Rejected {
        /// Why.
        cause: ErrorKind,
    },
    /// A request failed. The secret in use is not touched by that.
    Failed {
        /// Why.
        error: Error,
        /// When the next attempt comes.
        retry_in: Duration,
    },
    /// A pool ended connections that were still borrowed when their credentials ended, as its policy told it.
    Terminated {
        /// How many.
        connections: usize,
    },
    /// Requests begin to fail: the first [`Failed`](Self::Failed) after a success.
    Degraded,
    /// Requests succeed again.
    Recovered,
}
