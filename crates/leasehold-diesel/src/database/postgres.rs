//! PostgreSQL.

use diesel::{
    QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    pg::PgConnection,
    select,
    sql_types::{BigInt, Nullable, Oid, Text},
};
use leasehold_core::{ErrorKind, Result};

use super::{Database, Dialect};
use crate::address::{Address, Place};

impl Database for PgConnection {}

impl Dialect for PgConnection {
    fn address(url: &str) -> Result<Address> {
        Address::parse(url, &["postgres", "postgresql"], |_| Place::Parameters)
    }

    fn kind_of(message: &str) -> ErrorKind {
        let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
        let missing =
            |what: &str| message.split_once(what).is_some_and(|(_, rest)| rest.contains("\" does not exist"));
        if says(FULL) {
            ErrorKind::DatabaseFull
        } else if says(REFUSED) || missing(" role \"") {
            ErrorKind::CredentialsRefused
        } else if says(UNAVAILABLE) {
            ErrorKind::DatabaseUnavailable
        } else if says(MISCONFIGURED) || missing(" database \"") {
            ErrorKind::Configuration
        } else {
            ErrorKind::Unexpected
        }
    }

    fn identity(&mut self, username: &str) -> QueryResult<Option<u64>> {
        // Unlike `session_user`, it answers NULL for a role that was dropped, so no message needs to be understood.
        let quoted = format!("\"{}\"", username.replace('"', "\"\""));
        let oid =
            sql::<Nullable<Oid>>("pg_catalog.to_regrole(").bind::<Text, _>(quoted).sql(")::pg_catalog.oid");
        let oid: Option<u32> = select(oid).get_result(self)?;
        Ok(oid.map(u64::from))
    }

    fn end_others(&mut self) -> QueryResult<usize> {
        let count = sql::<BigInt>(
            "pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
             WHERE usename = session_user AND pid <> pg_catalog.pg_backend_pid()",
        );
        let count: i64 = select(count).get_result(self)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn end_this(&mut self) -> QueryResult<()> {
        self.batch_execute("SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")
    }
}

/// 53300.
const FULL: &[&str] = &[
    "too many clients already",
    "too many connections for role",
    "too many connections for database",
    "remaining connection slots are reserved",
];

/// 28P01, 28000 and 42501. A role that does not exist is one more.
const REFUSED: &[&str] = &[
    "authentication failed for user",
    "is not permitted to log in",
    "no pg_hba.conf entry for",
    "pg_hba.conf rejects connection",
    "permission denied for database",
];

/// Class 57, and what libpq says about the way to the server.
const UNAVAILABLE: &[&str] = &[
    "starting up",
    "shutting down",
    "not yet accepting connections",
    "not accepting connections",
    "in recovery mode",
    "terminating connection",
    "Connection refused",
    "Connection reset",
    "No route to host",
    "Network is unreachable",
    "No such file or directory",
    "timeout expired",
    "timed out",
    "could not translate host name",
    "server closed the connection unexpectedly",
    "could not receive data from server",
    "could not send",
];

/// What libpq says about the URL.
const MISCONFIGURED: &[&str] =
    &["invalid URI", "invalid connection option", "invalid integer value", "invalid sslmode"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_says_is_understood_or_left_open() {
        let to = "connection to server at \"127.0.0.1\", port 5432 failed: ";
        for (message, kind) in [
            ("FATAL:  password authentication failed for user \"v-a\"", ErrorKind::CredentialsRefused),
            ("FATAL:  role \"v-a\" does not exist", ErrorKind::CredentialsRefused),
            ("FATAL:  role \"v-a\" is not permitted to log in", ErrorKind::CredentialsRefused),
            (
                "FATAL:  no pg_hba.conf entry for host \"10.0.0.1\", user \"v-a\"",
                ErrorKind::CredentialsRefused,
            ),
            ("FATAL:  too many connections for role \"v-a\"", ErrorKind::DatabaseFull),
            ("FATAL:  sorry, too many clients already", ErrorKind::DatabaseFull),
            ("FATAL:  database \"app\" does not exist", ErrorKind::Configuration),
            ("FATAL:  the database system is starting up", ErrorKind::DatabaseUnavailable),
            ("Connection refused\n\tIs the server running on that host?", ErrorKind::DatabaseUnavailable),
            ("timeout expired", ErrorKind::DatabaseUnavailable),
            ("FATAL:  Passwort-Authentifizierung für Benutzer »v-a« fehlgeschlagen", ErrorKind::Unexpected),
            ("", ErrorKind::Unexpected),
        ] {
            assert_eq!(PgConnection::kind_of(&format!("{to}{message}")), kind, "{message}");
        }
    }
}
