//! What can be set about a keeper.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Provider, Result,
    clock::{Clock, SystemClock},
};

use crate::Keeper;

/// Settings of a [`Keeper`]; the defaults fit most services.
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
}

impl Builder {
    /// The defaults: the machine's clock, 60 s to drain, 10 s to shut down.
    pub fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            drain_budget: Duration::from_secs(60),
            shutdown_bound: Duration::from_secs(10),
        }
    }

    /// Sets how long before its end a secret must have a successor, so that its users have time to let go of it: the
    /// longest time that a connection is borrowed from a pool. At most 40 % of the TTL is used.
    #[must_use]
    pub fn drain_budget(mut self, budget: Duration) -> Self {
        self.drain_budget = budget;
        self
    }

    /// Sets how long [`Keeper::shutdown`] waits for users to go and for revocations to be answered.
    #[must_use]
    pub fn shutdown_bound(mut self, bound: Duration) -> Self {
        self.shutdown_bound = bound;
        self
    }

    /// Sets where time comes from, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Obtains the first secret and starts the task that keeps it alive.
    ///
    /// # Errors
    /// Whatever the first attempt of `provider` failed with; it is not tried again.
    ///
    /// # Cancel safety
    /// If the future is dropped while the secret is being issued, the task revokes it as soon as it arrives.
    pub async fn start<P: Provider + 'static>(self, provider: P) -> Result<Keeper<P::Secret>> {
        Keeper::start_with(self, provider).await
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}
