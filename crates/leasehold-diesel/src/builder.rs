//! The builder of r2d2 pools that change credentials.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError},
};

use diesel::{
    connection::{Instrumentation, get_default_instrumentation},
    r2d2::{self, CustomizeConnection, NopConnectionCustomizer},
};
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Party, Result,
    in_place::{InForce, InPlace, Settings},
};
use tracing::warn;

use crate::{
    address::{Address, configuration},
    customize::{Customize, Customizer},
    database::Database,
    manager::{Instruments, Manager, Pool, Shared},
    rider::Riders,
    slots::Slots,
};

/// Builds pools of `PgConnection`.
#[cfg(feature = "postgres")]
pub type Postgres = Builder<diesel::pg::PgConnection>;

/// Builds pools of `MysqlConnection`.
#[cfg(feature = "mysql")]
pub type Mysql = Builder<diesel::mysql::MysqlConnection>;

/// The rotation of one pool: a future for a tokio runtime, which must be able to run blocking work.
///
/// It holds the pool, because r2d2 has no weaker handle. It ends when the keeper of the credentials is shut down, or when
/// it is dropped: the pool then goes on with the credentials in force.
pub type Rotation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Builds a pool that opens its connections with whatever credentials are in force.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// use diesel::{pg::PgConnection, r2d2::Pool};
/// use leasehold_diesel::{Manager, Postgres};
///
/// # async fn example(current: Current<Credentials>) -> Result<()> {
/// let pool: Pool<Manager<PgConnection>> = Postgres::new("postgres://db/orders?sslmode=verify-full")?
///     .pool(|pool| pool.max_size(16))
///     .connect(current)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is built before `connect` or `connect_blocking`"]
pub struct Builder<C: Database> {
    address: Address,
    configure: Configure<C>,
    customizer: Customizer<C>,
    instrumentation: Option<Instruments>,
    settings: Settings,
}

impl<C: Database> Builder<C> {
    /// Connects to this URL, which names the database and holds no credentials: `postgres://host:port/database?sslmode=…`
    /// with libpq's parameters, or `mysql://host:port/database?ssl_mode=…` with diesel's.
    ///
    /// ```
    /// use leasehold_diesel::Postgres;
    ///
    /// assert!(Postgres::new("postgres://db:5432/orders?sslmode=verify-full").is_ok());
    /// let error = Postgres::new("postgres://me:secret@db/orders").unwrap_err();
    /// assert!(!error.to_string().contains("secret"));
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it is no such URL, if it names no database, or if a username or a
    /// password is in it: they would never be used, and a password in a URL ends up in logs and process lists.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            address: C::address(url)?,
            configure: Box::new(|pool| pool),
            customizer: Arc::new(NopConnectionCustomizer),
            instrumentation: None,
            settings: Settings::default(),
        })
    }

    /// Sets the pool up: its size, its timeouts, its event and error handlers. A customizer set here is replaced and never
    /// runs; give it to [`customizer`](Self::customizer).
    pub fn pool(
        mut self,
        configure: impl FnOnce(r2d2::Builder<Manager<C>>) -> r2d2::Builder<Manager<C>> + Send + 'static,
    ) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// As [`r2d2::Builder::connection_customizer`]. It is called for the connections that the rotation opens and closes,
    /// too. It must not call `set_instrumentation`, but [`leasehold_diesel::set_instrumentation`](crate::set_instrumentation).
    pub fn customizer(mut self, customizer: impl CustomizeConnection<C, r2d2::Error>) -> Self {
        self.customizer = Arc::new(customizer);
        self
    }

    /// Sets how each connection is instrumented; diesel's default instrumentation otherwise.
    pub fn instrumentation<I: Instrumentation>(
        mut self,
        make: impl Fn() -> I + Send + Sync + 'static,
    ) -> Self {
        self.instrumentation = Some(Box::new(move || Box::new(make())));
        self
    }

    /// Sets how the pool is rotated.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Proves the credentials with a connection, builds the pool with it, and rotates it from now on, on this tokio runtime
    /// and until the keeper is shut down.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused), [`DatabaseFull`](ErrorKind::DatabaseFull) and
    /// [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable) as the database answers;
    /// [`Configuration`](ErrorKind::Configuration) if the URL does not fit; [`NotYet`](ErrorKind::NotYet) and
    /// [`Closed`](ErrorKind::Closed) if there are no credentials.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped, once the attempts under way have ended.
    pub async fn connect(self, current: Current<Credentials>) -> Result<Pool<C>> {
        let built = tokio::task::spawn_blocking(move || self.build(current));
        let (pool, rotation) =
            built.await.map_err(|why| configuration(format!("building the pool: {why}")))??;
        tokio::spawn(rotation);
        Ok(pool)
    }

    /// As [`connect`](Self::connect) for programs without tokio. This blocks; `spawn` puts the rotation where its runtime
    /// is, and what it returns is returned: a handle whose drop, or whose `abort`, ends the rotation.
    ///
    /// ```no_run
    /// # use leasehold_core::{Credentials, Provider, Result};
    /// use leasehold_diesel::Postgres;
    /// use leasehold_renewal::blocking::Runtime;
    ///
    /// # fn example(role: impl Provider<Secret = Credentials> + 'static) -> Result<()> {
    /// let runtime = Runtime::start()?;
    /// let login = runtime.keep(role)?;
    /// let (pool, rotation) = Postgres::new("postgres://db/orders")?
    ///     .connect_blocking(login.current(), |rotation| runtime.spawn(rotation))?;
    ///
    /// // Keep `rotation` as long as the pool: its drop ends it.
    /// drop((rotation, pool));
    /// login.shutdown()
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_blocking<T>(
        self,
        current: Current<Credentials>,
        spawn: impl FnOnce(Rotation) -> T,
    ) -> Result<(Pool<C>, T)> {
        let (pool, rotation) = self.build(current)?;
        Ok((pool, spawn(rotation)))
    }

    fn build(self, current: Current<Credentials>) -> Result<(Pool<C>, Rotation)> {
        if self.instrumentation.is_none() && get_default_instrumentation().is_some() {
            warn!(
                "diesel shows its default instrumentation the URL of each connection, password included: \
                 it must not print `StartEstablishConnection` nor `FinishEstablishConnection`"
            );
        }
        let issued = current.get()?;
        let in_force = InForce::new(Arc::clone(&issued), Arc::clone(current.clock()));
        let shared = Arc::new(Shared {
            address: self.address,
            in_force: Arc::clone(&in_force),
            current: current.clone(),
            riders: Riders::default(),
            customizer: self.customizer,
            handshake: self.settings.handshake,
            instrumentation: self.instrumentation,
            first: None.into(),
        });
        let mut first = shared.open(in_force.tag(Arc::clone(&issued))).inspect_err(|error| {
            if error.kind() == ErrorKind::CredentialsRefused {
                current.reject(issued.generation(), error.kind());
            }
        })?;
        let identity = first.identity(issued.secret().username()).ok().flatten();
        let known = identity.map(|identity| (issued.generation(), identity));
        *shared.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
        let pool = (self.configure)(Pool::builder())
            .connection_customizer(Box::new(Customize(Arc::clone(&shared.customizer))))
            .build(Manager(Arc::clone(&shared)))
            .map_err(|error| {
                let said = error.to_string();
                Error::new(C::kind_of(&said), Party::Database, said)
            })?;
        // A pool that opens nothing before it is asked has left it.
        drop(shared.take_first());
        let slots = Slots::new(pool.clone(), shared, known);
        let rotation = InPlace::new(slots, in_force, current, self.settings).run();
        Ok((pool, Box::pin(rotation)))
    }
}

/// What the user does to r2d2's builder.
type Configure<C> = Box<dyn FnOnce(r2d2::Builder<Manager<C>>) -> r2d2::Builder<Manager<C>> + Send>;

impl<C: Database> fmt::Debug for Builder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
