//! What a database or a driver has to say.

use async_trait::async_trait;
use leasehold_core::{Credentials, Result};

/// How to open a connection, and what to do with it. Implement it for a database or a driver of your own.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// What the pool hands out.
    type Connection: Send + 'static;

    /// Opens a connection with these credentials.
    ///
    /// # Errors
    /// [`CredentialsRefused`](leasehold_core::ErrorKind::CredentialsRefused) only if the database refuses the credentials
    /// themselves: [`of_sqlstate`](leasehold_core::ErrorKind::of_sqlstate) and
    /// [`of_mysql`](leasehold_core::ErrorKind::of_mysql) know. [`DatabaseFull`](leasehold_core::ErrorKind::DatabaseFull) if
    /// it has no room for another connection.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than [`Settings::handshake`](crate::Settings::handshake).
    async fn connect(&self, credentials: &Credentials) -> Result<Self::Connection>;

    /// Whether a connection still works, as [`bb8::ManageConnection::is_valid`] asks when one is handed out.
    ///
    /// # Errors
    /// If it does not: the pool closes it and hands out another.
    ///
    /// # Cancel safety
    /// Dropped with the caller, or when that has waited for the `connection_timeout` of bb8.
    async fn check(&self, connection: &mut Self::Connection) -> Result<()>;

    /// Whether a connection that comes back is known to be broken, without asking the database.
    fn has_broken(&self, _connection: &mut Self::Connection) -> bool {
        false
    }

    /// Asks the database whether it still knows the connection's user, every other second and on one connection.
    ///
    /// # Errors
    /// [`CredentialsRefused`](leasehold_core::ErrorKind::CredentialsRefused) if it does not.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than [`Settings::handshake`](crate::Settings::handshake).
    async fn ask(&self, _connection: &mut Self::Connection) -> Result<()> {
        Ok(())
    }

    /// Ends what else the user of this connection has open on the server, and returns how many that were. Called with a
    /// connection of credentials that are about to end, if the [settings](crate::Settings::terminate) say so.
    ///
    /// # Errors
    /// If that cannot be done.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than [`Settings::handshake`](crate::Settings::handshake).
    async fn terminate_others(&self, _connection: &mut Self::Connection) -> Result<usize> {
        Ok(0)
    }

    /// Closes a connection whose place another has taken. It must bound its own time.
    ///
    /// # Cancel safety
    /// Dropped with the pool.
    async fn close(&self, connection: Self::Connection) {
        drop(connection);
    }
}
