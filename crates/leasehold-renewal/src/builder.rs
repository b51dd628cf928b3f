//! The settings of a keeper.

use std::{sync::Arc, time::Duration};

use leasehold_core::clock::{Clock, SystemClock};

/// Settings of a [`Keeper`](crate::Keeper); the defaults fit most services.
///
/// ```no_run
/// # use std::time::Duration;
/// # use leasehold_core::{Credentials, Provider, Result};
/// # async fn example(role: impl Provider<Secret = Credentials> + 'static) -> Result<()> {
/// let login = leasehold_renewal::Builder::new()
///     .drain_budget(Duration::from_secs(300)) // reports that run for minutes
///     .start(role)
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drain_budget: Duration,
    pub(crate) shutdown_bound: Duration,
    pub(crate) start_policy: StartPolicy,
    pub(crate) issue_budget: Option<(u32, Duration)>,
}

/// The reaction of a start to a first secret that cannot be obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPolicy {
    /// Fail after one attempt.
    FailAtOnce,
    /// Keep trying for so long, if the failure may pass by itself (Vault is down, sealed, or busy), then fail with the last
    /// error. A failure that somebody must correct ends the start at once. The bound holds also while a request is not
    /// answered: a secret that is granted later is revoked.
    WaitUpTo(Duration),
    /// Start without a secret, and keep trying after every error. Until there is one, `Current::get` says why not,
    /// `Current::ready` waits, and the health is degraded.
    Degraded,
}

impl Builder {
    /// The defaults: the machine's clock, 30 s to wait for Vault at the start, 60 s to drain, 10 s to shut down.
    pub fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            drain_budget: Duration::from_secs(60),
            shutdown_bound: Duration::from_secs(10),
            start_policy: StartPolicy::WaitUpTo(Duration::from_secs(30)),
            issue_budget: None,
        }
    }

    /// Sets how long before its end a secret must have a successor, so that its users have time to let go of it: the
    /// longest time that a connection is borrowed from a pool. At most 40 % of the TTL is used, and at least 5 s or a
    /// tenth of it. A token needs as much as the most patient secret that is issued under it: give both keepers the same.
    #[must_use]
    pub fn drain_budget(mut self, budget: Duration) -> Self {
        self.drain_budget = budget;
        self
    }

    /// Sets how long [`Keeper::shutdown`](crate::Keeper::shutdown) waits for users to go and for revocations to be answered.
    #[must_use]
    pub fn shutdown_bound(mut self, bound: Duration) -> Self {
        self.shutdown_bound = bound;
        self
    }

    /// Sets how a start ends if the first secret cannot be obtained. The default waits up to 30 s for a Vault that is down,
    /// sealed or busy, and fails at once if somebody must correct something.
    #[must_use]
    pub fn start_policy(mut self, policy: StartPolicy) -> Self {
        self.start_policy = policy;
        self
    }

    /// Sets how many secrets may be issued because those before were refused or had ended: so many in a row, and then
    /// one more in each `interval`. The default is ten, and one in each sixth of the TTL (at most ten minutes): not
    /// enough for a pool that can use none of them to fill the database with users. A replacement by plan, or
    /// because of a new token, is not counted.
    #[must_use]
    pub fn issue_budget(mut self, in_a_row: u32, interval: Duration) -> Self {
        self.issue_budget = Some((in_a_row.max(1), interval));
        self
    }

    /// Sets where time comes from, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}
