//! Pools of tokio-postgres's connections.

mod connection;
mod error;

use std::{fmt, sync::Arc};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, ExposeSecret, Party, Result, in_place::Settings,
};
use tokio_postgres::{
    Config, NoTls, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use crate::{Connect, Manager};

pub use connection::PostgresConnection;
pub(crate) use error::translate;

/// A [`bb8::Pool`] of PostgreSQL connections that rotates.
pub type Pool = crate::Pool<Connector>;

/// bb8's builder of such a pool, with all its settings.
pub type PoolBuilder = bb8::Builder<Manager<Connector>>;

/// Builds a pool that opens its connections with whatever credentials are in force.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current};
/// use leasehold_bb8::postgres::{Pool, Postgres};
///
/// # async fn example(login: Current<Credentials>) -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = tokio_postgres::Config::new();
/// config.host("db.example").dbname("pipeline");
/// let pool: Pool = Postgres::new(config).pool(|pool| pool.max_size(16)).connect(login).await?;
///
/// let connection = pool.get().await?;
/// let row = connection.query_one("SELECT count(*) FROM measurements", &[]).await?;
/// # let _: i64 = row.get(0);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is built before `connect`"]
pub struct Postgres {
    connector: Connector,
    configure: Box<dyn FnOnce(PoolBuilder) -> PoolBuilder + Send>,
    settings: Settings,
}

impl Postgres {
    /// Connects as `config` says, but for user and password, without TLS. It must name the database: PostgreSQL would
    /// look for one that is named after the user, whose name changes.
    pub fn new(config: Config) -> Self {
        Self::with_tls(config, NoTls)
    }

    /// Connects as `config` says, but for user and password, with a TLS connector of `tokio_postgres`.
    pub fn with_tls<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self {
            connector: Connector::new(config, tls),
            configure: Box::new(|pool| pool),
            settings: Settings::default(),
        }
    }

    /// Sets the pool up: its size, its timeouts, and a customizer of connections. It is called once.
    pub fn pool(mut self, configure: impl FnOnce(PoolBuilder) -> PoolBuilder + Send + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Sets how the pool is rotated.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Builds the pool, proves the credentials with its first connection, and rotates it from now on: see
    /// [`build`](crate::build).
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused), [`DatabaseFull`](ErrorKind::DatabaseFull) and
    /// [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable) as the database answers;
    /// [`Configuration`](ErrorKind::Configuration) if no database is named; [`NotYet`](ErrorKind::NotYet) and
    /// [`Closed`](ErrorKind::Closed) if there are no credentials.
    ///
    /// # Panics
    /// As bb8's builder, on settings that it does not take.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn connect(self, current: Current<Credentials>) -> Result<Pool> {
        if !self.connector.names_a_database {
            let message = "no database is named; PostgreSQL would look for one named after the user, whose name changes";
            return Err(Error::new(ErrorKind::Configuration, Party::Configuration, message));
        }
        let builder = (self.configure)(bb8::Pool::builder());
        crate::build(builder, Manager::new(self.connector, current)?, self.settings).await
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Opens connections to PostgreSQL: what [`Postgres`] builds its pool with, for a [`Manager`] of your own making.
pub struct Connector {
    dial: Arc<Dial>,
    names_a_database: bool,
}

/// A TLS connector has a type of its own; this has not.
type Dial = dyn Fn(&Credentials) -> Dialing + Send + Sync;
type Dialing = futures_util::future::BoxFuture<'static, Result<PostgresConnection, tokio_postgres::Error>>;

impl Connector {
    /// Connects as `config` says, but for user and password, with a TLS connector of `tokio_postgres`.
    pub fn new<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let names_a_database = config.get_dbname().is_some();
        let dial = move |credentials: &Credentials| -> Dialing {
            let (mut config, tls) = (config.clone(), tls.clone());
            config.user(credentials.username()).password(credentials.password().expose_secret());
            Box::pin(async move {
                let (client, connection) = config.connect(tls).await?;
                Ok(PostgresConnection::new(client, connection))
            })
        };
        Self { dial: Arc::new(dial), names_a_database }
    }
}

impl Connect for Connector {
    type Connection = PostgresConnection;

    async fn connect(&self, credentials: &Credentials) -> Result<PostgresConnection> {
        (self.dial)(credentials).await.map_err(|error| translate(Some(credentials.username()), &error))
    }

    async fn check(&self, connection: &mut PostgresConnection) -> Result<()> {
        let answer = connection.simple_query("").await;
        answer.map(drop).map_err(|error| translate(None, &error))
    }

    fn has_broken(&self, connection: &mut PostgresConnection) -> bool {
        connection.is_closed()
    }

    async fn ask(&self, connection: &mut PostgresConnection) -> Result<()> {
        let answer = connection.simple_query("SELECT session_user").await;
        answer.map(drop).map_err(|error| translate(None, &error))
    }

    async fn end(&self, connection: &mut PostgresConnection) -> bool {
        // Nobody is left to say that it is done.
        let _ = connection.simple_query("SELECT pg_terminate_backend(pg_backend_pid())").await;
        true
    }

    async fn terminate_others(&self, connection: &mut PostgresConnection) -> Result<usize> {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE usename = session_user AND pid <> pg_backend_pid()";
        let ended = connection.query(sql, &[]).await.map_err(|error| translate(None, &error))?;
        Ok(ended.len())
    }

    async fn close(&self, connection: PostgresConnection) {
        connection.close().await;
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
