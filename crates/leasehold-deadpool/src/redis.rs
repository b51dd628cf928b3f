//! A genuine `deadpool_redis::Pool` whose connections log in again.

mod login;
mod logins;
mod rotation;

use std::{fmt, pin::Pin, sync::Arc};

use deadpool_redis::{
    Manager, Pool, PoolBuilder, Runtime,
    redis::{
        AsyncConnectionConfig, ConnectionInfo, IntoConnectionInfo, RedisResult,
        auth::{BasicAuth, StreamingCredentialsProvider},
    },
};
use futures_util::Stream;
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Party, Result,
    in_place::{InForce, Settings},
};

use login::Server;
use logins::Logins;
use rotation::{Rotation, Users};

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
        let (pool, rotation) = self.build(current)?;
        rotation.start().await?;
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

    /// As [`connect`](Self::connect), for connections without a pool: a `MultiplexedConnection`, a `ConnectionManager`, or a
    /// cluster's. The rotation ends when the provider has gone, and every connection that it logged in. What was set for the
    /// pool is not used; of a cluster, the address is that of one node.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn provide(self, current: Current<Credentials>) -> Result<CredentialsProvider> {
        let logins = self.logins(&current)?;
        let provider = CredentialsProvider { logins: logins.clone(), alive: Arc::new(()) };
        let connection = self.connection.set_connection_timeout(Some(self.settings.handshake));
        let users = Users::Others(Arc::downgrade(&provider.alive));
        let server = Server { address: self.address, connection };
        Rotation::new(users, server, logins, current, self.settings).start().await?;
        Ok(provider)
    }

    fn build(self, current: Current<Credentials>) -> Result<(Pool, Rotation)> {
        let logins = self.logins(&current)?;
        let connection = self.connection.set_connection_timeout(Some(self.settings.handshake));
        let following = connection.clone().set_credentials_provider(logins.clone());
        let manager = Manager::new_with_config(self.address.clone(), following)
            .map_err(|error| configuration(error.to_string()))?;
        let pool = (self.configure)(Pool::builder(manager).runtime(Runtime::Tokio1))
            .build()
            .map_err(|error| configuration(error.to_string()))?;
        let (users, server) = (Users::Pool(pool.weak()), Server { address: self.address, connection });
        Ok((pool, Rotation::new(users, server, logins, current, self.settings)))
    }

    fn logins(&self, current: &Current<Credentials>) -> Result<Logins> {
        let in_force = InForce::new(current.get()?, Arc::clone(current.clock()));
        Ok(Logins::new(in_force, self.settings.handshake))
    }
}

/// Logs connections of redis in with whatever credentials are in force, and again when those change. Give it to
/// `set_credentials_provider` of an [`AsyncConnectionConfig`], a `ConnectionManagerConfig` or a `ClusterClientBuilder`.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current};
/// use deadpool_redis::redis::{AsyncConnectionConfig, Client};
/// use leasehold_deadpool::redis::Redis;
///
/// # async fn example(login: Current<Credentials>) -> Result<(), Box<dyn std::error::Error>> {
/// let address = "redis://cache.example/0";
/// let provider = Redis::new(address)?.provide(login).await?;
/// let config = AsyncConnectionConfig::new().set_credentials_provider(provider);
/// let connection = Client::open(address)?.get_multiplexed_async_connection_with_config(&config).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CredentialsProvider {
    logins: Logins,
    alive: Arc<()>,
}

impl StreamingCredentialsProvider for CredentialsProvider {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        self.logins.subscribe()
    }
}

impl fmt::Debug for CredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsProvider").field("logins", &self.logins).finish_non_exhaustive()
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
