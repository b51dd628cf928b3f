//! Keepers for programs without tokio.
//!
//! A [`Runtime`] owns one thread, on which any number of keepers live. Everything here is called from ordinary
//! threads and waits by blocking; reading a secret waits for nothing: [`Current::get`] is synchronous anyway.
//!
//! ```
//! # use leasehold_core::{Credentials, Grant, Lease, Provider, Record, Renewed, Result, Revoked, async_trait};
//! # struct Role;
//! # #[async_trait] impl Provider for Role {
//! #     type Secret = Credentials;
//! #     async fn issue(&self) -> Result<Grant<Credentials>> {
//! #         Ok(Grant::new(Credentials::new("v-pipeline-1", "secret".to_owned()), Lease::endless()))
//! #     }
//! #     async fn renew(&self, _: &Record<Credentials>) -> Result<Renewed> { unreachable!("it does not end") }
//! #     async fn revoke(&self, _: &Record<Credentials>) -> Result<Revoked> { Ok(Revoked::Done) }
//! #     fn name(&self) -> String { "database/creds/pipeline".to_owned() }
//! # }
//! use leasehold_renewal::blocking::Runtime;
//!
//! fn main() -> leasehold_core::Result<()> {
//!     let runtime = Runtime::start()?;
//!     let login = runtime.keep(Role)?; // such as a `DatabaseRole`
//!     let credentials = login.current().get()?;
//!     assert_eq!(credentials.secret().username(), "v-pipeline-1");
//!
//!     drop(credentials); // and whatever else uses them: leaf first
//!     login.shutdown()
//! }
//! ```
//!
//! # How long the thread lives
//! As long as anything lives on it: it ends by itself once every [`Runtime`], every [`Keeper`], every [`Task`] and every
//! keeper's task has gone, and a keeper's task lives until its shut-down or as long as anyone can read it. So a pool
//! whose manager holds nothing but a [`Current`] goes on rotating, and when that pool is dropped the lease is revoked
//! and the thread ends. The process does not wait for that: **when `main` returns, a keeper that was not shut down has
//! revoked nothing.**
//!
//! # Within tokio
//! A function that blocks refuses to be called where a tokio runtime is, with [`Configuration`](ErrorKind::Configuration): it would
//! stop every other task of that thread. That includes `spawn_blocking`, which tokio lets nobody tell apart. There is a
//! runtime there already: use [`leasehold_renewal::Keeper`](crate::Keeper).
//!
//! # Providers
//! They are made outside, and driven on the thread: a client that opens its connections when it is asked, as
//! `leasehold_vault::Client` does, notices no difference. One that blocks the thread holds up every keeper on it; a
//! panic of one is a failed request of its own keeper, and of no other.

use std::{
    convert::Infallible,
    fmt,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use leasehold_core::{
    Current, Error, ErrorKind, Event, Grant, Health, Issued, Party, Provider, Record, Renewed, Result,
    Revoked, async_trait,
    clock::{Clock, SystemClock},
};
use tokio::{
    runtime::{self, Handle},
    sync::{broadcast, mpsc},
    task::{AbortHandle, JoinError},
};

use crate::Builder;

/// The thread that keepers live on. A clone is the same thread.
///
/// Dropping it stops nothing: see [how long the thread lives](self#how-long-the-thread-lives).
#[derive(Clone)]
pub struct Runtime {
    tokio: Handle,
    stay: Stay,
}

impl Runtime {
    /// Starts the thread, `leasehold` by name. It uses no CPU but for requests.
    ///
    /// ```
    /// let runtime = leasehold_renewal::blocking::Runtime::start()?;
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) within tokio, or if the system grants no thread.
    pub fn start() -> Result<Self> {
        outside_tokio()?;
        let refused = |error| configuration(format!("no thread for the keepers: {error}"));
        let tokio = runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("leasehold-calls") // those of `spawn_blocking`, such as name resolution
            .build()
            .map_err(refused)?;
        let (stay, mut stays) = mpsc::channel(1);
        let this = Self { tokio: tokio.handle().clone(), stay: Stay { _open: stay } };
        let live = move || {
            // Nothing is ever sent: this waits until the last `Stay` has gone.
            let _ = tokio.block_on(stays.recv());
        };
        thread::Builder::new().name("leasehold".into()).spawn(live).map_err(refused)?;
        Ok(this)
    }

    /// Obtains the first secret and starts the task that keeps it alive, with the default settings of [`Builder`].
    ///
    /// # Errors
    /// The provider's error: at once if somebody must correct it, after 30 s if Vault is down, sealed or busy.
    /// [`Configuration`](ErrorKind::Configuration) within tokio.
    pub fn keep<P: Provider + 'static>(&self, provider: P) -> Result<Keeper<P::Secret>> {
        self.keep_with(Builder::new(), provider)
    }

    /// As [`keep`](Self::keep), with settings of its own.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use leasehold_core::{Credentials, Provider, Result};
    /// # use leasehold_renewal::blocking::Runtime;
    /// # fn example(runtime: &Runtime, role: impl Provider<Secret = Credentials> + 'static) -> Result<()> {
    /// let settings = leasehold_renewal::Builder::new().drain_budget(Duration::from_secs(300));
    /// let login = runtime.keep_with(settings, role)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`keep`](Self::keep), as soon as the [start policy](Builder::start_policy) gives up.
    pub fn keep_with<P: Provider + 'static>(
        &self,
        settings: Builder,
        provider: P,
    ) -> Result<Keeper<P::Secret>> {
        outside_tokio()?;
        let shutdown_bound = settings.shutdown_bound;
        let resident = Resident { provider, _stay: self.stay.clone() };
        let started = self.tokio.spawn(settings.start(resident));
        // As long as the provider needs: an issue is never given up, since its answer may be a lease.
        match wait(started, Duration::MAX) {
            Some(started) => Ok(Keeper {
                keeper: started.map_err(|why| ended(&why))??,
                shutdown_bound,
                runtime: self.clone(),
            }),
            None => Err(stuck()),
        }
    }

    /// Runs a future on the thread until it returns or the [`Task`] is dropped. This does not block, and may be called
    /// within tokio.
    ///
    /// It is for adapters of synchronous pools: [`leasehold_core::drive`], which joins a pool to its credentials, is
    /// a future and never returns. The pool's manager, not the future, should own the [`Task`], and the future no more of
    /// the pool than a `Weak`: then the pool's end is the rotation's.
    ///
    /// **The future must not block**, or no keeper on the thread is heard: a [`Rotate`](leasehold_core::Rotate) that opens
    /// connections synchronously does so in [`tokio::task::spawn_blocking`], for which the thread is a tokio runtime.
    ///
    /// ```no_run
    /// use leasehold_core::{Credentials, Current, Result, Rotate, drive};
    /// use leasehold_renewal::blocking::{Runtime, Task};
    ///
    /// fn rotate(runtime: &Runtime, current: Current<Credentials>, pool: impl Rotate + 'static) -> Result<Task> {
    ///     let in_force = current.get()?; // what the pool's first connections were opened with
    ///     Ok(runtime.spawn(async move { drive(current, in_force, &pool).await }))
    /// }
    /// ```
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let stay = self.stay.clone();
        let running = self.tokio.spawn(async move {
            let _stay = stay;
            future.await;
        });
        Task { running: running.abort_handle() }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// Keeps one secret alive, on the thread of a [`Runtime`]. It does the same as a [`Keeper`](crate::Keeper).
///
/// Dropping it stops nothing while someone can read the secret.
pub struct Keeper<S> {
    keeper: crate::Keeper<S>,
    shutdown_bound: Duration,
    runtime: Runtime,
}

impl<S: Send + Sync + 'static> Keeper<S> {
    /// A handle to the latest value, for every user of the secret. Clone it freely; [`changed`] waits for the next.
    pub fn current(&self) -> Current<S> {
        self.keeper.current()
    }

    /// The events of the secret from now on; a thread that listens calls `blocking_recv`.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.keeper.events()
    }

    /// The state at a glance.
    pub fn health(&self) -> Health {
        self.keeper.health()
    }

    /// Stops renewing, waits until nothing uses the secret any more, revokes it, and ends the task. It blocks for no
    /// longer than the bound (10 s unless set) and about a second more, even if something blocks the keepers' thread.
    ///
    /// Shut down leaf first: drop the pool, then its credentials' keeper, then the token's. A secret that is still in use
    /// when most of the bound is over is revoked all the same.
    ///
    /// # Errors
    /// The last failure, if something could not be revoked within the bound; it then ends at its TTL or with its token.
    /// [`Configuration`](ErrorKind::Configuration) within tokio: then it is begun all the same, and not waited for.
    pub fn shutdown(self) -> Result<()> {
        let bound = self.shutdown_bound;
        self.shutdown_within(bound)
    }

    /// As [`shutdown`](Self::shutdown), with a bound of its own.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub fn shutdown_within(self, bound: Duration) -> Result<()> {
        let Self { keeper, runtime, .. } = self;
        let stay = runtime.stay.clone();
        let ended_with = runtime.tokio.spawn(async move {
            let _stay = stay;
            keeper.shutdown_within(bound).await
        });
        outside_tokio()?;
        match wait(ended_with, bound.saturating_add(GRACE)) {
            Some(ended_with) => ended_with.map_err(|why| ended(&why))?,
            None => Err(stuck()),
        }
    }
}

impl<S> fmt::Debug for Keeper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keeper.fmt(f)
    }
}

/// A future on the thread of a [`Runtime`], which is dropped, over there, when this is.
#[derive(Debug)]
#[must_use = "dropping it ends the future"]
pub struct Task {
    running: AbortHandle,
}

impl Task {
    /// Whether the future has ended: it returned, or it panicked.
    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Waits for a value newer than the one that was there when `current` was made or last waited, and returns it; `None`
/// if there is none `within` that time, and the next call goes on waiting for the same.
///
/// It needs no [`Runtime`]: the keeper of `current` may live in any.
///
/// ```no_run
/// # use std::time::Duration;
/// # use leasehold_core::{Credentials, Current, Result};
/// use leasehold_renewal::blocking;
///
/// fn follow(mut current: Current<Credentials>) -> Result<()> {
///     loop {
///         if let Some(next) = blocking::changed(&mut current, Duration::from_secs(1))? {
///             println!("now {}", next.secret().username());
///         }
///     }
/// }
/// ```
///
/// # Errors
/// [`Closed`](ErrorKind::Closed) after the keeper's shut-down, and [`Configuration`](ErrorKind::Configuration) within tokio.
pub fn changed<S>(current: &mut Current<S>, within: Duration) -> Result<Option<Arc<Issued<S>>>> {
    outside_tokio()?;
    wait(current.changed(), within).transpose()
}

/// Waits for the first value, where the keeper was started without one; `None` if there is none `within` that time.
///
/// # Errors
/// As [`changed`].
pub fn ready<S>(current: &Current<S>, within: Duration) -> Result<Option<Arc<Issued<S>>>> {
    outside_tokio()?;
    wait(current.ready(), within).transpose()
}

/// As long as one is held, the thread lives.
#[derive(Clone)]
struct Stay {
    _open: mpsc::Sender<Infallible>,
}

/// A provider that keeps the thread. Its keeper's task owns it and nobody else, so it is dropped when that task ends,
/// however it does: nothing else tells.
struct Resident<P> {
    provider: P,
    _stay: Stay,
}

#[async_trait]
impl<P: Provider> Provider for Resident<P> {
    type Secret = P::Secret;

    async fn issue(&self) -> Result<Grant<P::Secret>> {
        self.provider.issue().await
    }

    async fn renew(&self, of: &Record<P::Secret>) -> Result<Renewed> {
        self.provider.renew(of).await
    }

    async fn revoke(&self, of: &Record<P::Secret>) -> Result<Revoked> {
        self.provider.revoke(of).await
    }

    async fn changed(&self, of: &Record<Self::Secret>) {
        self.provider.changed(of).await
    }

    fn name(&self) -> String {
        self.provider.name()
    }
}

/// Blocks this thread until the future is ready, `None` once it took too long. Not tokio's `block_on`, whose timers are
/// the other thread's: a bound must hold even if that one is stuck.
fn wait<F: Future>(future: F, within: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let deadline = SystemClock.now() + within;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = SystemClock.now().until(deadline);
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn outside_tokio() -> Result<()> {
    match Handle::try_current() {
        Err(_) => Ok(()),
        Ok(_) => {
            let message = "this blocks, and was called within a tokio runtime (spawn_blocking counts): use leasehold_renewal::Keeper there";
            Err(configuration(message))
        }
    }
}

fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}

fn ended(why: &JoinError) -> Error {
    let message =
        if why.is_panic() { "a panic has ended the keeper's task" } else { "the keepers' thread has ended" };
    Error::new(ErrorKind::Closed, Party::Configuration, message)
}

fn stuck() -> Error {
    let message = "the keepers' thread does not answer: a provider or a future of `spawn` blocks it";
    Error::new(ErrorKind::Unreachable, Party::Configuration, message)
}

/// How much later than its bound a shut-down is waited for: longer than the keeper itself takes.
const GRACE: Duration = Duration::from_secs(1);
