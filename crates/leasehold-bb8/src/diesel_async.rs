//! Pools of diesel-async's connections to PostgreSQL.

use std::{fmt, sync::Arc};

use ::diesel_async::{AsyncPgConnection, RunQueryDsl, pooled_connection::PoolableConnection};
use diesel::{
    dsl::sql,
    sql_types::{BigInt, Bool},
};
use leasehold_core::{Credentials, Error, ErrorKind, ExposeSecret, Party, Result};
use tokio_postgres::{
    Config, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use crate::{Connect, postgres};

/// A [`bb8::Pool`] of [`AsyncPgConnection`]s that rotates.
pub type Pool = crate::Pool<Connector>;

/// Opens connections to PostgreSQL for diesel-async.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current};
/// use diesel_async::RunQueryDsl;
/// use leasehold_bb8::{Manager, Settings, build, diesel_async::{Connector, Pool}};
/// use tokio_postgres::NoTls;
///
/// # async fn example(login: Current<Credentials>) -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = tokio_postgres::Config::new();
/// config.host("db.example").dbname("pipeline");
/// let manager = Manager::new(Connector::new(config, NoTls), login)?;
/// let pool: Pool = build(bb8::Pool::builder().max_size(16), manager, Settings::default()).await?;
///
/// let mut connection = pool.get().await?;
/// diesel::sql_query("UPDATE measurements SET value = 0").execute(&mut connection).await?;
/// # Ok(())
/// # }
/// ```
pub struct Connector {
    dial: Arc<Dial>,
}

/// A TLS connector has a type of its own; this has not.
type Dial = dyn Fn(&Credentials) -> Dialing + Send + Sync;
type Dialing = futures_util::future::BoxFuture<'static, Result<AsyncPgConnection>>;

impl Connector {
    /// Connects as `config` says, but for user and password, with a TLS connector of `tokio_postgres`. It must name the
    /// database: PostgreSQL would look for one that is named after the user, whose name changes.
    pub fn new<T>(config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let dial = move |credentials: &Credentials| -> Dialing {
            let (mut config, tls) = (config.clone(), tls.clone());
            let user = credentials.username().to_owned();
            config.user(&user).password(credentials.password().expose_secret());
            Box::pin(async move {
                let opened = config.connect(tls).await;
                let (client, connection) =
                    opened.map_err(|error| postgres::translate(Some(&user), &error))?;
                let set_up = AsyncPgConnection::try_from_client_and_connection(client, connection).await;
                set_up.map_err(|error| unavailable(&error))
            })
        };
        Self { dial: Arc::new(dial) }
    }
}

impl Connect for Connector {
    type Connection = AsyncPgConnection;

    async fn connect(&self, credentials: &Credentials) -> Result<AsyncPgConnection> {
        (self.dial)(credentials).await
    }

    async fn check(&self, connection: &mut AsyncPgConnection) -> Result<()> {
        let answer = diesel::sql_query("SELECT 1").execute(connection).await;
        answer.map(drop).map_err(|error| unavailable(&error))
    }

    /// Also a transaction that was left open.
    fn has_broken(&self, connection: &mut AsyncPgConnection) -> bool {
        connection.is_broken()
    }

    /// Diesel tells no SQLSTATE, so the question is one whose answer is no error.
    async fn ask(&self, connection: &mut AsyncPgConnection) -> Result<()> {
        let known = sql::<Bool>(
            "EXISTS (SELECT FROM pg_roles JOIN pg_stat_get_activity(pg_backend_pid()) ON usesysid = oid)",
        );
        match diesel::select(known).get_result(connection).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = "the user of an open session is not there any more";
                Err(Error::new(ErrorKind::CredentialsRefused, Party::Database, message))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn end(&self, connection: &mut AsyncPgConnection) -> bool {
        // Nobody is left to say that it is done.
        let _ = diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())").execute(connection).await;
        true
    }

    async fn terminate_others(&self, connection: &mut AsyncPgConnection) -> Result<usize> {
        let ended = sql::<BigInt>(
            "count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE usename = session_user AND pid <> pg_backend_pid()",
        );
        let ended: i64 =
            diesel::select(ended).get_result(connection).await.map_err(|error| unavailable(&error))?;
        Ok(usize::try_from(ended).unwrap_or_default())
    }
}

fn unavailable(error: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::DatabaseUnavailable, Party::Database, error.to_string())
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
