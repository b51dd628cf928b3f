//! What a refusal by the database means.

use leasehold_core::{Credentials, Error, ErrorKind, Party};

use crate::database::{Database, Options};

/// Translates what came of using `credentials`. The text is the server's, with its code.
pub(crate) fn translate<D: Database>(
    base: &Options<D>,
    credentials: &Credentials,
    error: &sqlx::Error,
) -> Error {
    let kind = kind(error);
    let party = match kind {
        ErrorKind::Configuration | ErrorKind::Closed => Party::Configuration,
        _ => Party::Database,
    };
    let what = match error.as_database_error() {
        Some(refusal) => match number(error) {
            Some(number) => format!("{} (error {number})", refusal.message()),
            None => format!("{} (SQLSTATE {})", refusal.message(), sqlstate(error).unwrap_or_default()),
        },
        None => error.to_string(),
    };
    let (user, address) = (credentials.username(), D::address(base));
    Error::new(kind, party, format!("as {user} at {address}: {what}"))
}

/// Which database it was is told by the driver's own type, through `sqlx::Any` too.
fn kind(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Database(refusal) => match (number(error), sqlstate(error)) {
            (Some(number), _) => ErrorKind::of_mysql(number),
            (None, Some(state)) => ErrorKind::of_sqlstate(&state, refusal.message()),
            (None, None) => ErrorKind::Unexpected,
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => ErrorKind::DatabaseUnavailable,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ErrorKind::Configuration,
        sqlx::Error::PoolClosed => ErrorKind::Closed,
        _ => ErrorKind::Unexpected,
    }
}

/// Whether a session of the user shows that the user is no more.
pub(crate) fn is_refused(error: &sqlx::Error) -> bool {
    kind(error) == ErrorKind::CredentialsRefused
}

/// Whether the session is of no use any more, also if the server says so itself when it ends one.
pub(crate) fn is_broken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_none() || kind(error) == ErrorKind::DatabaseUnavailable
}

/// Whether the server, or the user, has as many connections as it may have.
pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    kind(error) == ErrorKind::DatabaseFull
}

/// What sqlx itself takes for a database that is starting, and tries again.
pub(crate) fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => number(error).is_none() && sqlstate(error).is_some_and(|state| state == "57P03"),
    }
}

pub(crate) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))
}

/// MySQL's own number says more than its SQLSTATE.
fn number(error: &sqlx::Error) -> Option<u16> {
    #[cfg(feature = "mysql")]
    return Some(error.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?.number());
    #[cfg(not(feature = "mysql"))]
    return error.as_database_error().and(None);
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_refusal_by_the_server_refutes_nothing() {
        assert_eq!(kind(&timed_out()), ErrorKind::DatabaseUnavailable);
        assert_eq!(kind(&sqlx::Error::PoolTimedOut), ErrorKind::DatabaseUnavailable);
    }
}
