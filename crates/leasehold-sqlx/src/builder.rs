//! The builder of a `sqlx::PgPool` that changes credentials.

use std::{fmt, sync::Arc, time::Duration};

use leasehold_core::{Credentials, Current, Error, ErrorKind, Issued, Party, Result, clock::sleep_until};
use log::LevelFilter;
use sqlx::{
    PgConnection, PgPool,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use url::Url;

use crate::{
    canary::Canary,
    error,
    gate::{Gate, InForce},
    hooks::{self, BoxFuture, UserHooks},
    rotation::{self, Rotation, Settings},
    session::{self, Session},
};

/// Builds a [`PgPool`] that changes credentials.
///
/// The setters of the first part are those of [`PgPoolOptions`], under the same names. The hooks are here because
/// this crate sets the pool's own: yours run after ours, with the very same arguments.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// # use sqlx::postgres::PgConnectOptions;
/// # async fn example(current: Current<Credentials>) -> Result<()> {
/// let options = PgConnectOptions::new_without_pgpass().host("db").database("orders");
/// let pool: sqlx::PgPool = leasehold_sqlx::Postgres::new(options)
///     .max_connections(16)
///     .after_connect(|connection, _| Box::pin(async move {
///         sqlx::query("SET statement_timeout = '5s'").execute(connection).await?;
///         Ok(())
///     }))
///     .connect(current)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is built before `connect` or `connect_lazy`"]
pub struct Postgres {
    base: PgConnectOptions,
    pool: PgPoolOptions,
    user: UserHooks,
    canary_interval: Option<Duration>,
    stragglers: Stragglers,
}

/// What becomes of connections that are still borrowed when their credentials are about to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stragglers {
    /// They are left to whoever borrowed them, and closed when they come back. The server ends no session of a user
    /// that it drops, but refuses their statements.
    #[default]
    Leave,
    /// They are ended on the server a second before, while the old user still may: `pg_terminate_backend` on its own
    /// sessions. A statement under way fails with SQLSTATE 57P01.
    Terminate,
}

impl Postgres {
    /// Connects with these options; their username and password are overwritten, wherever they came from.
    ///
    /// They must name the database: PostgreSQL would look for one that is named after the user.
    pub fn new(base: PgConnectOptions) -> Self {
        Self {
            base,
            pool: PgPoolOptions::new(),
            user: UserHooks::default(),
            canary_interval: Some(Duration::from_secs(2)),
            stragglers: Stragglers::default(),
        }
    }

    /// Connects to `postgres://host:port/database?sslmode=…`, with the parameters that sqlx knows.
    ///
    /// ```
    /// use leasehold_sqlx::Postgres;
    ///
    /// assert!(Postgres::from_url("postgres://db:5432/orders?sslmode=verify-full").is_ok());
    /// let error = Postgres::from_url("postgres://me:secret@db/orders").unwrap_err();
    /// assert!(!error.to_string().contains("secret"));
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it is no such URL, or if a username or a password is in it:
    /// they would never be used, and a password in a URL ends up in logs and process lists.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut url: Url =
            url.parse().map_err(|error| configuration(format!("the database URL: {error}")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(configuration("the database URL does not begin with postgres://"));
        }
        let named = url.query_pairs().any(|(key, _)| matches!(&*key, "user" | "password"));
        if named || !url.username().is_empty() || url.password().is_some() {
            let why = "the database URL holds credentials, which would never be used: they come from Vault. \
                       Remove them from it, and change that password, which was readable where the URL was";
            return Err(configuration(why));
        }
        // Without a password sqlx would look for one in ~/.pgpass, and complain about that file's permissions.
        url.query_pairs_mut().append_pair("password", "none");
        let base = <PgConnectOptions as sqlx::ConnectOptions>::from_url(&url)
            .map_err(|error| configuration(format!("the database URL: {error}")))?;
        Ok(Self::new(base))
    }

    /// Takes every setting of the pool, but no hook, from `options`, and forgets those made before.
    ///
    /// **Hooks set on `options` are replaced and never run.** sqlx does not let us see them: give them to
    /// [`after_connect`](Self::after_connect), [`before_acquire`](Self::before_acquire) and
    /// [`after_release`](Self::after_release) here.
    pub fn pool_settings(mut self, options: PgPoolOptions) -> Self {
        self.pool = options;
        self
    }

    /// As [`PgPoolOptions::max_connections`]. The server sees up to two more: one that proves new credentials and
    /// watches them afterwards, and one more while these are replaced.
    pub fn max_connections(mut self, max: u32) -> Self {
        self.pool = self.pool.max_connections(max);
        self
    }

    /// As [`PgPoolOptions::min_connections`].
    pub fn min_connections(mut self, min: u32) -> Self {
        self.pool = self.pool.min_connections(min);
        self
    }

    /// As [`PgPoolOptions::acquire_timeout`]. A handshake of the rotation's own takes no longer either, nor longer
    /// than 10 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.pool = self.pool.acquire_timeout(timeout);
        self
    }

    /// As [`PgPoolOptions::idle_timeout`].
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.pool = self.pool.idle_timeout(timeout);
        self
    }

    /// As [`PgPoolOptions::max_lifetime`].
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.pool = self.pool.max_lifetime(lifetime);
        self
    }

    /// As [`PgPoolOptions::test_before_acquire`].
    pub fn test_before_acquire(mut self, test: bool) -> Self {
        self.pool = self.pool.test_before_acquire(test);
        self
    }

    /// As [`PgPoolOptions::acquire_slow_threshold`].
    pub fn acquire_slow_threshold(mut self, threshold: Duration) -> Self {
        self.pool = self.pool.acquire_slow_threshold(threshold);
        self
    }

    /// As [`PgPoolOptions::acquire_slow_level`].
    pub fn acquire_slow_level(mut self, level: LevelFilter) -> Self {
        self.pool = self.pool.acquire_slow_level(level);
        self
    }

    /// As [`PgPoolOptions::acquire_time_level`].
    pub fn acquire_time_level(mut self, level: LevelFilter) -> Self {
        self.pool = self.pool.acquire_time_level(level);
        self
    }

    /// As [`PgPoolOptions::after_connect`]. It runs once we know that the connection is one of the user in force.
    pub fn after_connect<F>(mut self, hook: F) -> Self
    where
        for<'c> F:
            Fn(&'c mut PgConnection, PoolConnectionMetadata) -> BoxFuture<'c, ()> + 'static + Send + Sync,
    {
        self.user.after_connect = Some(Arc::new(hook));
        self
    }

    /// As [`PgPoolOptions::before_acquire`]. It does not run for a connection that we refuse, which is closed.
    pub fn before_acquire<F>(mut self, hook: F) -> Self
    where
        for<'c> F:
            Fn(&'c mut PgConnection, PoolConnectionMetadata) -> BoxFuture<'c, bool> + 'static + Send + Sync,
    {
        self.user.before_acquire = Some(Arc::new(hook));
        self
    }

    /// As [`PgPoolOptions::after_release`]. It does not run for a connection that we refuse, which is closed.
    pub fn after_release<F>(mut self, hook: F) -> Self
    where
        for<'c> F:
            Fn(&'c mut PgConnection, PoolConnectionMetadata) -> BoxFuture<'c, bool> + 'static + Send + Sync,
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

    /// What becomes of connections that are still borrowed when their credentials are about to end.
    pub fn stragglers(mut self, policy: Stragglers) -> Self {
        self.stragglers = policy;
        self
    }

    /// Proves the current credentials, opens the pool as sqlx's `connect` does, and keeps its credentials current from
    /// then on. As in sqlx, a database that is starting is tried until the acquire timeout.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused) and [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable)
    /// from the database; [`Configuration`](ErrorKind::Configuration) if the options name no database or TLS cannot be
    /// agreed on; [`NotYet`](ErrorKind::NotYet) and [`Closed`](ErrorKind::Closed) from `current`.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn connect(self, current: Current<Credentials>) -> Result<PgPool> {
        self.check()?;
        let first = current.get()?;
        let session = self.prove_first(&current, &first).await?;
        let tells_identity = session.user == first.secret().username();
        let in_force = InForce { issued: Arc::clone(&first), role: session.role.map(|role| role.oid) };
        let options = session::options(&self.base, first.secret());
        let (settings, (base, gate, pool)) =
            (self.settings(), self.prepare(&current, in_force, tells_identity));
        let canary = Canary::default();
        let has_room = rotation::has_room(session.role, pool.get_max_connections());
        canary.keep(session, first.generation(), has_room && settings.canary_interval.is_some()).await;
        let pool = pool.connect_with(options).await;
        let pool = pool.map_err(|error| error::translate(&base, first.secret(), &error))?;
        let rotation = Rotation { pool, base, gate, current, canary, sweeping: Arc::default(), settings };
        Ok(start(rotation, first))
    }

    /// Builds the pool without any I/O, with current credentials that nothing has proved yet, and keeps them current
    /// from then on. Like sqlx's `connect_lazy` it must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if the options name no database; [`NotYet`](ErrorKind::NotYet) and
    /// [`Closed`](ErrorKind::Closed) from `current`.
    pub fn connect_lazy(self, current: Current<Credentials>) -> Result<PgPool> {
        self.check()?;
        let first = current.get()?;
        let in_force = InForce { issued: Arc::clone(&first), role: None };
        let options = session::options(&self.base, first.secret());
        let (settings, (base, gate, pool)) = (self.settings(), self.prepare(&current, in_force, true));
        let canary = Canary::allowed(settings.canary_interval.is_some());
        let pool = pool.connect_lazy_with(options);
        let rotation = Rotation { pool, base, gate, current, canary, sweeping: Arc::default(), settings };
        Ok(start(rotation, first))
    }

    fn check(&self) -> Result<()> {
        match self.base.get_database() {
            Some(_) => Ok(()),
            None => Err(configuration(
                "no database is named; PostgreSQL would look for one named after the user, whose name changes",
            )),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            canary_interval: self.canary_interval,
            stragglers: self.stragglers,
            handshake: self.pool.get_acquire_timeout().min(LONGEST_HANDSHAKE),
        }
    }

    async fn prove_first(
        &self,
        current: &Current<Credentials>,
        first: &Issued<Credentials>,
    ) -> Result<Session> {
        let clock = current.clock();
        let give_up = clock.now() + self.pool.get_acquire_timeout();
        loop {
            let within = self.settings().handshake.min(clock.now().until(give_up));
            let error = match session::open(&self.base, first.secret(), within).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            let again = clock.now() + Duration::from_millis(100);
            if again < give_up && (error::is_starting(&error) || error::is_full(&error)) {
                sleep_until(&**clock, again).await;
                continue;
            }
            let error = error::translate(&self.base, first.secret(), &error);
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
    ) -> (Arc<PgConnectOptions>, Arc<Gate>, PgPoolOptions) {
        let handshake = self.settings().handshake;
        let base = Arc::new(self.base);
        let gate = Arc::new(Gate::new(Arc::clone(current.clock()), first, tells_identity));
        let pool = hooks::install(self.pool, &gate, &base, handshake, self.user);
        (base, gate, pool)
    }
}

impl fmt::Debug for Postgres {
    /// The options are left out: their own `Debug` tells the password that they were made with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("host", &self.base.get_host())
            .field("port", &self.base.get_port())
            .field("database", &self.base.get_database())
            .field("pool", &self.pool)
            .field("hooks", &self.user)
            .field("canary_interval", &self.canary_interval)
            .field("stragglers", &self.stragglers)
            .finish_non_exhaustive()
    }
}

fn start(rotation: Rotation, first: Arc<Issued<Credentials>>) -> PgPool {
    let pool = rotation.pool.clone();
    tokio::spawn(rotation.run(first));
    pool
}

fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}

const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
