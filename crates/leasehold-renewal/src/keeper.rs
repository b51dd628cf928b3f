//! The handle to the task that keeps one secret alive.

use std::{fmt, sync::Arc, time::Duration};

use leasehold_core::{Current, Error, ErrorKind, Event, Health, Party, Provider, Result, clock::sleep_until};
use tokio::sync::{broadcast, oneshot};

use crate::{
    Builder,
    task::{self, Stop},
};

/// Keeps one secret alive: renews it while it can, replaces it before it must, and revokes each issue that nothing uses any
/// more.
///
/// The task behind it runs until [`shutdown`](Self::shutdown), or until neither this handle nor any [`Current`] is
/// left; dropping the handle alone stops nothing, so that a pool built in a function goes on rotating. No error ends it.
pub struct Keeper<S> {
    current: Current<S>,
    stop: oneshot::Sender<Stop>,
    shutdown_bound: Duration,
}

impl<S: Send + Sync + 'static> Keeper<S> {
    /// Obtains the first secret and starts the task, with the default settings of [`Builder`]. Call it within a tokio
    /// runtime, which the task then lives in.
    ///
    /// ```no_run
    /// # use leasehold_core::{Credentials, Provider, Result};
    /// # use leasehold_renewal::Keeper;
    /// # async fn example(role: impl Provider<Secret = Credentials> + 'static) -> Result<()> {
    /// let login = Keeper::start(role).await?;
    /// println!("logged in as {}", login.current().get()?.secret().username());
    /// login.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The provider's error: at once if somebody must correct it, after 30 s if Vault is down, sealed or busy.
    ///
    /// # Cancel safety
    /// If the future is dropped while the secret is being issued, the task revokes it as soon as it arrives.
    pub async fn start<P: Provider<Secret = S> + 'static>(provider: P) -> Result<Self> {
        Builder::new().start(provider).await
    }

    pub(crate) async fn start_with<P: Provider<Secret = S> + 'static>(
        settings: Builder,
        provider: P,
    ) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let shutdown_bound = settings.shutdown_bound;
        let started = task::spawn(settings, provider, stopped);
        let current = started.await.map_err(|_| ended())??;
        Ok(Self { current, stop, shutdown_bound })
    }

    /// A handle to the latest value, for every user of the secret. Clone it freely.
    pub fn current(&self) -> Current<S> {
        self.current.clone()
    }

    /// The events of the secret from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.current.events()
    }

    /// The state at a glance.
    pub fn health(&self) -> Health {
        self.current.health()
    }

    /// Stops renewing, waits until nothing uses the secret any more, revokes it, and ends the task.
    ///
    /// Shut down leaf first: close the pool, then its credentials' keeper, then the token's. A secret that is still in
    /// use when seven tenths of the bound (10 s unless set) are over is revoked all the same.
    ///
    /// # Errors
    /// The last failure, if something could not be revoked within the bound; it then ends at its TTL or with its token.
    ///
    /// # Cancel safety
    /// The task goes on shutting down when the future is dropped.
    pub async fn shutdown(self) -> Result<()> {
        let bound = self.shutdown_bound;
        self.shutdown_within(bound).await
    }

    /// As [`shutdown`](Self::shutdown), with a bound of its own.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(self, bound: Duration) -> Result<()> {
        let (done, ended_with) = oneshot::channel();
        let Self { current, stop, .. } = self;
        let clock = Arc::clone(current.clock());
        let deadline = clock.now() + bound;
        stop.send(Stop { deadline, done }).map_err(|_| ended())?;
        // Not before: if this is the last handle, the task would end for want of readers, and hear of no stop.
        drop(current);
        tokio::select! {
            biased;
            ended_with = ended_with => ended_with.map_err(|_| ended())?,
            // A request that is in flight is not cut off: its answer may be a lease that only we know of.
            () = sleep_until(&*clock, deadline + GRACE) => Err(late()),
        }
    }
}

impl Builder {
    /// Obtains the first secret and starts the task that keeps it alive.
    ///
    /// # Errors
    /// The provider's error, as soon as the [start policy](Self::start_policy) gives up.
    ///
    /// # Cancel safety
    /// If the future is dropped while the secret is being issued, the task revokes it as soon as it arrives.
    pub async fn start<P: Provider + 'static>(self, provider: P) -> Result<Keeper<P::Secret>> {
        Keeper::start_with(self, provider).await
    }
}

impl<S> fmt::Debug for Keeper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("current", &self.current).finish_non_exhaustive()
    }
}

fn ended() -> Error {
    Error::new(
        ErrorKind::Closed,
        Party::Configuration,
        "the keeper's task has ended: its runtime was shut down",
    )
}

fn late() -> Error {
    let message =
        "no answer to a request within the bound of the shut-down; the task ends when it comes or times out";
    Error::new(ErrorKind::Unreachable, Party::Vault, message)
}

const GRACE: Duration = Duration::from_millis(250);
