//! What a refusal by the database means.

use leasehold_core::{Credentials, Error, ErrorKind, Party};
use sqlx::postgres::PgConnectOptions;

/// Translates what came of using `credentials`. The text is the server's and the SQLSTATE; options are never printed
/// whole, because their `Debug` tells the password.
pub(super) fn translate(base: &PgConnectOptions, credentials: &Credentials, error: &sqlx::Error) -> Error {
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
        sqlx::Error::Database(_) => sqlstate(error).map_or(ErrorKind::Unexpected, |state| kind_of(&state)),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => ErrorKind::DatabaseUnavailable,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ErrorKind::Configuration,
        sqlx::Error::PoolClosed => ErrorKind::Closed,
        _ => ErrorKind::Unexpected,
    }
}

/// Only what speaks of the user refutes the credentials: everything else may pass, and they may be good.
fn kind_of(sqlstate: &str) -> ErrorKind {
    match sqlstate {
        // A wrong password, no such role, no rule that lets it in.
        _ if sqlstate.starts_with("28") => ErrorKind::CredentialsRefused,
        // The role of an open session was dropped; the role may not connect to this database.
        ROLE_IS_GONE | "42501" => ErrorKind::CredentialsRefused,
        // No such database, or one that accepts no connections.
        "3D000" | "55000" => ErrorKind::Configuration,
        // Full (53), shutting down or starting up (57), a connection that broke (08), a failure inside (58, XX).
        _ if ["53", "57", "08", "58", "XX"].iter().any(|class| sqlstate.starts_with(class)) => {
            ErrorKind::DatabaseUnavailable
        }
        _ => ErrorKind::Unexpected,
    }
}

/// Whether a session of the user shows that the user is no more.
pub(super) fn role_is_gone(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|state| state == ROLE_IS_GONE)
}

/// Whether the server, or the user, has as many connections as it may have.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|state| state == "53300")
}

/// What sqlx itself takes for a database that is starting, and tries again.
pub(super) fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => sqlstate(error).is_some_and(|state| state == "57P03"),
    }
}

pub(super) fn timed_out() -> sqlx::Error {
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
    fn only_what_speaks_of_the_user_refutes_the_credentials() {
        for (state, kind) in [
            ("28P01", ErrorKind::CredentialsRefused),
            ("28000", ErrorKind::CredentialsRefused),
            ("42704", ErrorKind::CredentialsRefused),
            ("42501", ErrorKind::CredentialsRefused),
            ("53300", ErrorKind::DatabaseUnavailable),
            ("57P03", ErrorKind::DatabaseUnavailable),
            ("08006", ErrorKind::DatabaseUnavailable),
            ("3D000", ErrorKind::Configuration),
            ("22023", ErrorKind::Unexpected),
        ] {
            assert_eq!(kind_of(state), kind, "{state}");
        }
        assert_eq!(kind(&timed_out()), ErrorKind::DatabaseUnavailable);
        assert_eq!(kind(&sqlx::Error::PoolTimedOut), ErrorKind::DatabaseUnavailable);
    }
}
