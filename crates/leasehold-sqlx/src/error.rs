//! What a refusal by the database means.

use leasehold_core::{Credentials, Error, ErrorKind, Party};
use sqlx::postgres::PgConnectOptions;

/// Translates what came of using `credentials`. The text is the server's and the SQLSTATE; options are never printed
/// whole, because their `Debug` tells the password.
pub(crate) fn translate(base: &PgConnectOptions, credentials: &Credentials, error: &sqlx::Error) -> Error {
    let kind = kind(error);
    let party = match kind {
        ErrorKind::Configuration | ErrorKind::Closed => Party::Configuration,
        _ => Party::Database,
    };
    let what = match error.as_database_error() {
        Some(refusal) => format!("{} (SQLSTATE {})", refusal.message(), sqlstate(error).unwrap_or_default()),
        None => error.to_string(),
    };
    let (user, host, port) = (credentials.username(), base.get_host(), base.get_port());
    Error::new(kind, party, format!("as {user} at {host}:{port}: {what}"))
}

fn kind(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Database(_) => {
            sqlstate(error).map_or(ErrorKind::Unexpected, |state| ErrorKind::of_sqlstate(&state))
        }
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => ErrorKind::DatabaseUnavailable,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ErrorKind::Configuration,
        sqlx::Error::PoolClosed => ErrorKind::Closed,
        _ => ErrorKind::Unexpected,
    }
}

/// Whether a session of the user shows that the user is no more.
pub(crate) fn role_is_gone(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|state| state == ROLE_IS_GONE)
}

/// Whether the server, or the user, has as many connections as it may have.
pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|state| state == "53300")
}

/// What sqlx itself takes for a database that is starting, and tries again.
pub(crate) fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => sqlstate(error).is_some_and(|state| state == "57P03"),
    }
}

pub(crate) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

const ROLE_IS_GONE: &str = "42704";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_refusal_by_the_server_refutes_nothing() {
        assert_eq!(kind(&timed_out()), ErrorKind::DatabaseUnavailable);
        assert_eq!(kind(&sqlx::Error::PoolTimedOut), ErrorKind::DatabaseUnavailable);
    }
}
