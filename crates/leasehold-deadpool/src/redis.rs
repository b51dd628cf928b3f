//! A genuine `deadpool_redis::Pool` whose connections log in again.

mod login;
mod logins;
mod rotation;

use std::{fmt, sync::Arc};

use deadpool_redis::{
    Manager, Pool, PoolBuilder, Runtime,
    redis::{AsyncConnectionConfig, ConnectionInfo, IntoConnectionInfo},
};
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Party, Result,
    in_place::{InForce, Settings},
};
use tokio::sync::Mutex;

use login::Server;
use logins::Logins;
use rotation::Rotation;

/// Builds a pool whose connections log in with whatever credentials are in force, and again when those change: idle ones and
/// borrowed ones, each between two of its commands.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// use leasehold_deadpool::redis::Redis;
///
/// # async fn example(login: Current<Credentials>) -> Result<()> {
/// let pool: deadpool_redis::Pool =
///     Redis::new("redis://cache.example/0")?.pool(|pool| pool.max_size(16)).connect(login).await?;
/// # Ok(())
/// # }
/// ```
pub struct Redis {
    address: ConnectionInfo,
    connection: AsyncConnectionConfig,
    configure: Box<dyn FnOnce(PoolBuilder) -> PoolBuilder + Send>,
    settings: Settings,
}

impl Redis {
    /// Connects to this address: a URL, or a [`ConnectionInfo`], without a user and a password.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it is not an address, or has a user or a password.
    pub fn new(address: impl IntoConnectionInfo) -> Result<Self> {
        let address = address.into_connection_info().map_err(|error| configuration(error.to_string()))?;
        let settings = address.redis_settings();
        if settings.username().is_some() || settings.password().is_some() {
            return Err(configuration("an address with credentials of its own, which would never be used"));
        }
        Ok(Self {
            address,
            connection: AsyncConnectionConfig::new(),
            configure: Box::new(|pool| pool),
            settings: Settings::default(),
        })
    }

    /// Sets how connections behave: the longest that an answer may take, say. Ours are the credentials, and the longest
    /// that a connection may take to be opened, which is [`Settings::handshake`].
    #[must_use]
    pub fn connection(mut self, config: AsyncConnectionConfig) -> Self {
        self.connection = config;
        self
    }

    /// Sets the pool up: its size, its timeouts, its hooks.
    #[must_use]
    pub fn pool(mut self, configure: impl FnOnce(PoolBuilder) -> PoolBuilder + Send + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Sets how the pool is rotated. Nothing is ever terminated: what is borrowed logs in again too.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Proves the credentials by a connection beside the pool, builds that, and rotates it from now on. The rotation ends
    /// when the pool is closed, or when its last handle has gone.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused), [`DatabaseFull`](ErrorKind::DatabaseFull) and
    /// [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable) as Redis answers;
    /// [`Configuration`](ErrorKind::Configuration) if the pool cannot be built; [`NotYet`](ErrorKind::NotYet) and
    /// [`Closed`](ErrorKind::Closed) if there are no credentials.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn connect(self, current: Current<Credentials>) -> Result<Pool> {
        let first = current.get()?;
        let (pool, rotation) = self.build(current.clone())?;
        if let Err(error) = rotation.prove(&first).await {
            if error.kind() == ErrorKind::CredentialsRefused {
                current.reject(first.generation(), error.kind());
            }
            return Err(error);
        }
        tokio::spawn(rotation.run());
        Ok(pool)
    }

    /// As [`connect`](Self::connect), but proves nothing. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), but for what Redis answers.
    pub fn connect_lazy(self, current: Current<Credentials>) -> Result<Pool> {
        let (pool, rotation) = self.build(current)?;
        tokio::spawn(rotation.run());
        Ok(pool)
    }

    fn build(self, current: Current<Credentials>) -> Result<(Pool, Rotation)> {
        let in_force = InForce::new(current.get()?, Arc::clone(current.clock()));
        let logins = Logins::new(in_force, self.settings.handshake);
        let connection = self.connection.set_connection_timeout(Some(self.settings.handshake));
        let following = connection.clone().set_credentials_provider(logins.clone());
        let manager = Manager::new_with_config(self.address.clone(), following)
            .map_err(|error| configuration(error.to_string()))?;
        let pool = (self.configure)(Pool::builder(manager).runtime(Runtime::Tokio1))
            .build()
            .map_err(|error| configuration(error.to_string()))?;
        let rotation = Rotation {
            pool: pool.weak(),
            server: Server { address: self.address, connection },
            logins,
            current,
            settings: self.settings,
            switching: Mutex::new(()),
        };
        Ok((pool, rotation))
    }
}

fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("address", self.address.addr())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
