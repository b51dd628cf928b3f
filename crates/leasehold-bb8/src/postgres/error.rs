//! tokio-postgres's errors, in our words.

use std::error::Error as _;

use leasehold_core::{Error, ErrorKind, Party};

pub(crate) fn translate(user: Option<&str>, error: &tokio_postgres::Error) -> Error {
    let message = match user {
        Some(user) => format!("as {user}: {}", shown(error)),
        None => shown(error),
    };
    Error::new(kind(error), Party::Database, message)
}

fn kind(error: &tokio_postgres::Error) -> ErrorKind {
    let is_io = || error.source().is_some_and(|source| source.is::<std::io::Error>());
    match error.as_db_error() {
        Some(refusal) => ErrorKind::of_sqlstate(refusal.code().code(), refusal.message()),
        None if error.is_closed() || is_io() => ErrorKind::DatabaseUnavailable,
        None => ErrorKind::Unexpected,
    }
}

/// The server's own words; tokio-postgres keeps them in the source.
pub(super) fn shown(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(refusal), _) => format!("{} (SQLSTATE {})", refusal.message(), refusal.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
