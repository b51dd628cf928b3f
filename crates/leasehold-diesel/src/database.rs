//! What differs between the databases.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;

use diesel::{QueryResult, r2d2::R2D2Connection};
use leasehold_core::{ErrorKind, Result};

use crate::address::Address;

/// A connection of diesel's own that pools can be made of: `PgConnection` or `MysqlConnection`, each behind its feature.
pub trait Database: R2D2Connection + Dialect + Send + 'static {}

/// What we say to the database. Nobody else implements it.
#[allow(unnameable_types, reason = "it seals `Database`")]
pub trait Dialect: Sized {
    /// Checks a URL without credentials.
    fn address(url: &str) -> Result<Address>;

    /// What the client library's words mean: diesel passes nothing else on when a handshake fails.
    fn kind_of(message: &str) -> ErrorKind;

    /// Who this user is in the server's lists; `None` if it is not, or not any more. Nothing in the answer depends on
    /// the language of the server's messages.
    fn identity(&mut self, username: &str) -> QueryResult<Option<u64>>;

    /// Ends the other sessions of this connection's user, and counts them.
    fn end_others(&mut self) -> QueryResult<usize>;

    /// Ends this session on the server. An error is the expected answer.
    fn end_this(&mut self) -> QueryResult<()>;
}
