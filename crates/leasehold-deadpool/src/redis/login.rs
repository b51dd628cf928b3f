//! Logging in, beside the pool and on one of its connections.

use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, RedisError,
    aio::MultiplexedConnection,
};
use leasehold_core::{Credentials, Error, ErrorKind, ExposeSecret, Party, Result};

/// What every connection is opened with beside its credentials.
pub(super) struct Server {
    pub(super) address: ConnectionInfo,
    pub(super) connection: AsyncConnectionConfig,
}

impl Server {
    /// Opens a connection beside the pool.
    ///
    /// By `HELLO` and nothing else: with `AUTH`, or with more than one command at once, redis does not tell a full server
    /// from a wrong password.
    pub(super) async fn log_in(&self, credentials: &Credentials) -> Result<MultiplexedConnection> {
        let settings = self.address.redis_settings().clone();
        let settings = settings
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name()
            .set_db(0)
            .set_username(credentials.username())
            .set_password(credentials.password().expose_secret());
        let address = self.address.clone().set_redis_settings(settings);
        let opened = match Client::open(address) {
            Ok(client) => client.get_multiplexed_async_connection_with_config(&self.connection).await,
            Err(error) => Err(error),
        };
        opened.map_err(|error| translate(credentials, &error))
    }

    /// Asks what the pool asks whenever it opens a connection, and whenever it hands one out.
    pub(super) async fn check(
        &self,
        connection: &mut MultiplexedConnection,
        credentials: &Credentials,
    ) -> Result<()> {
        let mut commands = redis::pipe();
        match self.address.redis_settings().db() {
            0 => {}
            database => drop(commands.cmd("SELECT").arg(database).ignore()),
        }
        commands.cmd("UNWATCH").ignore().cmd("PING").ignore();
        commands.query_async::<()>(connection).await.map_err(|error| translate(credentials, &error))
    }
}

/// Logs an open connection in as somebody else. If it is refused, the connection stays who it is.
pub(super) async fn log_in_again(
    connection: &mut MultiplexedConnection,
    credentials: &Credentials,
) -> Result<()> {
    let mut command = redis::cmd("AUTH");
    command.arg(credentials.username()).arg(credentials.password().expose_secret());
    command.query_async::<()>(connection).await.map_err(|error| translate(credentials, &error))
}

fn translate(credentials: &Credentials, error: &RedisError) -> Error {
    let user = credentials.username();
    let message = format!("as {user}: {error}");
    Error::new(kind(error), Party::Database, message)
}

fn kind(error: &RedisError) -> ErrorKind {
    match (error.code(), error.kind()) {
        (Some(code), _) => ErrorKind::of_redis(&format!("{code} {}", error.detail().unwrap_or_default())),
        (None, redis::ErrorKind::Io) => ErrorKind::DatabaseUnavailable,
        (None, redis::ErrorKind::InvalidClientConfig) => ErrorKind::Configuration,
        (None, _) => ErrorKind::Unexpected,
    }
}
