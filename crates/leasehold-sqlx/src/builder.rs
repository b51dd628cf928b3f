//! The builder of a pool that changes credentials.

use std::{fmt, sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, ErrorKind, Issued, Result,
    clock::{Moment, sleep_until},
};
use log::LevelFilter;
use sqlx::{
    Pool,
    pool::{PoolConnectionMetadata, PoolOptions},
};

use crate::{
    canary::Canary,
    database::{self, BoxFuture, Database, Options},
    error,
    gate::{Gate, InForce},
    hooks::{self, UserHooks},
    rotation::{self, Rotation, Settings},
    session::{self, Session},
};

/// Builds a [`Pool`] that changes credentials: `Postgres`, `MySql` or `Any`.
///
/// The setters of the first part are those of [`PoolOptions`], under the same names. The hooks are here because this
/// crate sets the pool's own: yours run after ours, with the very same arguments.
#[must_use = "nothing is built before `connect` or `connect_lazy`"]
pub struct Builder<D: Database> {
    base: Options<D>,
    pool: PoolOptions<D>,
    user: UserHooks<D>,
    canary_interval: Option<Duration>,
    stragglers: Stragglers,
    prove_with: Option<&'static str>,
}

/// What becomes of connections that are still borrowed when their credentials are about to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stragglers {
    /// They are left to whoever borrowed them, and closed when they come back. No server ends the sessions of a user that
    /// it drops: PostgreSQL refuses their statements, MariaDB lets them go on reading and writing.
    #[default]
    Leave,
    /// They are ended on the server a second before, while the old user still may: `pg_terminate_backend`, or
    /// `KILL`, on its own sessions. A statement under way fails with SQLSTATE 57P01, or with a lost connection.
    Terminate,
}

impl<D: Database> Builder<D> {
    /// Connects with these options; their username and password are overwritten, wherever they came from.
    pub fn new(base: <D::Connection as sqlx::Connection>::Options) -> Self {
        Self {
            base,
            pool: PoolOptions::new(),
            user: UserHooks::default(),
            canary_interval: Some(Duration::from_secs(2)),
            stragglers: Stragglers::default(),
            prove_with: None,
        }
    }

    /// Connects to a URL, with the parameters that sqlx knows, and without credentials in it.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it is no such URL, or if a username or a password is in it:
    /// they would never be used, and a password in a URL ends up in logs and process lists.
    pub fn from_url(url: &str) -> Result<Self> {
        Ok(Self::new(database::parse::<D>(url)?))
    }

    /// Takes every setting of the pool, but no hook, from `options`, and forgets those made before.
    ///
    /// **Hooks set on `options` are replaced and never run.** sqlx does not let us see them: give them to
    /// [`after_connect`](Self::after_connect), [`before_acquire`](Self::before_acquire) and
    /// [`after_release`](Self::after_release) here.
    pub fn pool_settings(mut self, options: PoolOptions<D>) -> Self {
        self.pool = options;
        self
    }

    /// As [`PoolOptions::max_connections`]. The server sees up to two more: one that proves new credentials and
    /// watches them afterwards, and one more while these are replaced.
    pub fn max_connections(mut self, max: u32) -> Self {
        self.pool = self.pool.max_connections(max);
        self
    }

    /// As [`PoolOptions::min_connections`].
    pub fn min_connections(mut self, min: u32) -> Self {
        self.pool = self.pool.min_connections(min);
        self
    }

    /// As [`PoolOptions::acquire_timeout`]. A handshake of the rotation's own takes no longer either, nor longer
    /// than 10 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.pool = self.pool.acquire_timeout(timeout);
        self
    }

    /// As [`PoolOptions::idle_timeout`].
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.pool = self.pool.idle_timeout(timeout);
        self
    }

    /// As [`PoolOptions::max_lifetime`].
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.pool = self.pool.max_lifetime(lifetime);
        self
    }

    /// As [`PoolOptions::test_before_acquire`].
    pub fn test_before_acquire(mut self, test: bool) -> Self {
        self.pool = self.pool.test_before_acquire(test);
        self
    }

    /// As [`PoolOptions::acquire_slow_threshold`].
    pub fn acquire_slow_threshold(mut self, threshold: Duration) -> Self {
        self.pool = self.pool.acquire_slow_threshold(threshold);
        self
    }

    /// As [`PoolOptions::acquire_slow_level`].
    pub fn acquire_slow_level(mut self, level: LevelFilter) -> Self {
        self.pool = self.pool.acquire_slow_level(level);
        self
    }

    /// As [`PoolOptions::acquire_time_level`].
    pub fn acquire_time_level(mut self, level: LevelFilter) -> Self {
        self.pool = self.pool.acquire_time_level(level);
        self
    }

    /// As [`PoolOptions::after_connect`]. It runs once we know that the connection is one of the user in force.
    pub fn after_connect<F>(mut self, hook: F) -> Self
    where
        for<'c> F:
            Fn(&'c mut D::Connection, PoolConnectionMetadata) -> BoxFuture<'c, ()> + 'static + Send + Sync,
    {
        self.user.after_connect = Some(Arc::new(hook));
        self
    }

    /// As [`PoolOptions::before_acquire`]. It does not run for a connection that we refuse, which is closed.
    pub fn before_acquire<F>(mut self, hook: F) -> Self
    where
        for<'c> F:
            Fn(&'c mut D::Connection, PoolConnectionMetadata) -> BoxFuture<'c, bool> + 'static + Send + Sync,
    {
        self.user.before_acquire = Some(Arc::new(hook));
        self
    }

    /// As [`PoolOptions::after_release`]. It does not run for a connection that we refuse, which is closed.
    pub fn after_release<F>(mut self, hook: F) -> Self
    where
        for<'c> F:
            Fn(&'c mut D::Connection, PoolConnectionMetadata) -> BoxFuture<'c, bool> + 'static + Send + Sync,
    {
        self.user.after_release = Some(Arc::new(hook));
        self
    }

    /// How often to ask the database, on a connection beside the pool, whether it still knows the user: 2 s unless
    /// told, and never with `None`. A user that was dropped is rejected, and a keeper then issues another.
    pub fn canary_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.canary_interval = interval.into().filter(|interval| !interval.is_zero());
        self
    }

    /// A statement that credentials must be able to run before the pool takes them: `SELECT FROM orders LIMIT 1`. A role whose
    /// creation statements lack a grant then leaves the pool on the credentials before, and is reported, instead of failing
    /// queries one by one. The hooks do not run on the connection of the proof, which is beside the pool.
    pub fn prove_with(mut self, statement: &'static str) -> Self {
        self.prove_with = Some(statement);
        self
    }

    /// What becomes of connections that are still borrowed when their credentials are about to end.
    pub fn stragglers(mut self, policy: Stragglers) -> Self {
        self.stragglers = policy;
        self
    }

    /// Proves the current credentials, opens the pool as sqlx's `connect` does, and keeps its credentials current from
    /// then on. As in sqlx, a database that is starting is tried until the acquire timeout.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused), [`DatabaseFull`](ErrorKind::DatabaseFull) and
    /// [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable) from the database;
    /// [`Configuration`](ErrorKind::Configuration) if the options cannot work or TLS cannot be agreed on;
    /// [`NotYet`](ErrorKind::NotYet) and [`Closed`](ErrorKind::Closed) from `current`.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn connect(self, current: Current<Credentials>) -> Result<Pool<D>> {
        D::check(&self.base)?;
        let first = current.get()?;
        let session = self.prove_first(&current, &first).await?;
        let tells_identity = session.user == first.secret().username();
        let in_force =
            InForce { issued: Arc::clone(&first), role: session.role.and_then(|role| role.number) };
        let has_room = rotation::has_room(session.role, self.pool.get_max_connections());
        let (settings, give_up) = (self.settings(), self.give_up(&current));
        let (base, gate, options) = self.prepare(&current, in_force, tells_identity);
        let canary = Canary::new(Arc::clone(&base), true);
        let allowed = has_room && settings.canary_interval.is_some();
        canary.keep(session, first.generation(), allowed, &gate).await;
        let pool = loop {
            let pool = options.clone().connect_with(D::with(&base, first.secret())).await;
            let clock = current.clock();
            let again = clock.now() + AGAIN;
            match pool {
                // The server may not have noticed yet that the session of the proof was closed.
                Err(error) if again < give_up && error::is_full(&error) => sleep_until(&**clock, again).await,
                pool => break pool,
            }
        };
        let pool = pool.map_err(|error| error::translate::<D>(&base, first.secret(), &error))?;
        let rotation = Rotation { pool, base, gate, current, canary, sweeping: Arc::default(), settings };
        Ok(start(rotation, first))
    }

    /// Builds the pool without any I/O, with current credentials that nothing has proved yet, and keeps them current
    /// from then on. Like sqlx's `connect_lazy` it must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if the options cannot work; [`NotYet`](ErrorKind::NotYet) and
    /// [`Closed`](ErrorKind::Closed) from `current`.
    pub fn connect_lazy(self, current: Current<Credentials>) -> Result<Pool<D>> {
        D::check(&self.base)?;
        let first = current.get()?;
        let in_force = InForce { issued: Arc::clone(&first), role: None };
        let settings = self.settings();
        let (base, gate, pool) = self.prepare(&current, in_force, true);
        let canary = Canary::new(Arc::clone(&base), settings.canary_interval.is_some());
        let pool = pool.connect_lazy_with(D::with(&base, first.secret()));
        let rotation = Rotation { pool, base, gate, current, canary, sweeping: Arc::default(), settings };
        Ok(start(rotation, first))
    }

    fn settings(&self) -> Settings {
        Settings {
            canary_interval: self.canary_interval,
            stragglers: self.stragglers,
            prove_with: self.prove_with,
            handshake: self.pool.get_acquire_timeout().min(LONGEST_HANDSHAKE),
        }
    }

    fn give_up(&self, current: &Current<Credentials>) -> Moment {
        current.clock().now() + self.pool.get_acquire_timeout()
    }

    async fn prove_first(
        &self,
        current: &Current<Credentials>,
        first: &Issued<Credentials>,
    ) -> Result<Session<D>> {
        let (clock, give_up) = (current.clock(), self.give_up(current));
        loop {
            let within = self.settings().handshake.min(clock.now().until(give_up));
            let error = match session::prove::<D>(&self.base, first.secret(), self.prove_with, within).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            let again = clock.now() + AGAIN;
            if again < give_up && (error::is_starting(&error) || error::is_full(&error)) {
                sleep_until(&**clock, again).await;
                continue;
            }
            let error = error::translate::<D>(&self.base, first.secret(), &error);
            if error.kind() == ErrorKind::CredentialsRefused {
                current.reject(first.generation(), error.kind());
            }
            return Err(error);
        }
    }

    fn prepare(
        self,
        current: &Current<Credentials>,
        first: InForce,
        tells_identity: bool,
    ) -> (Arc<Options<D>>, Arc<Gate>, PoolOptions<D>) {
        let handshake = self.settings().handshake;
        let base = Arc::new(self.base);
        let gate = Arc::new(Gate::new(Arc::clone(current.clock()), first, tells_identity));
        let pool = hooks::install(self.pool, &gate, &base, handshake, self.user);
        (base, gate, pool)
    }
}

impl<D: Database> fmt::Debug for Builder<D> {
    /// The options are left out: their own `Debug` tells the password that they were made with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(D::NAME)
            .field("address", &D::address(&self.base))
            .field("database", &D::database(&self.base))
            .field("pool", &self.pool)
            .field("hooks", &self.user)
            .field("canary_interval", &self.canary_interval)
            .field("stragglers", &self.stragglers)
            .field("prove_with", &self.prove_with)
            .finish_non_exhaustive()
    }
}

fn start<D: Database>(rotation: Rotation<D>, first: Arc<Issued<Credentials>>) -> Pool<D> {
    let pool = rotation.pool.clone();
    tokio::spawn(rotation.run(first));
    pool
}

/// Between two attempts to open the first connections.
const AGAIN: Duration = Duration::from_millis(100);
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
