//! MySQL and MariaDB.

use diesel::{
    QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    mysql::MysqlConnection,
    result::Error,
    select,
    sql_types::{Bigint, Unsigned},
};
use leasehold_core::{ErrorKind, Result};

use super::{Database, Dialect};
use crate::address::{Address, Place};

impl Database for MysqlConnection {}

impl Dialect for MysqlConnection {
    fn address(url: &str) -> Result<Address> {
        Address::parse(url, &["mysql"], Place::Authority)
    }

    fn kind_of(message: &str) -> ErrorKind {
        let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
        if says(FULL) {
            ErrorKind::DatabaseFull
        } else if says(REFUSED) {
            ErrorKind::CredentialsRefused
        } else if says(UNAVAILABLE) {
            ErrorKind::DatabaseUnavailable
        } else if says(&["Unknown database"]) {
            ErrorKind::Configuration
        } else {
            ErrorKind::Unexpected
        }
    }

    fn identity(&mut self, _username: &str) -> QueryResult<Option<u64>> {
        // The one statement that needs no privilege and fails once the user was dropped; the session goes on otherwise.
        match self.batch_execute("SHOW GRANTS") {
            Ok(()) => Ok(Some(0)),
            Err(Error::DatabaseError(_, said)) if Self::kind_of(said.message()) == ErrorKind::Unexpected => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn end_others(&mut self) -> QueryResult<usize> {
        let others = sql::<Unsigned<Bigint>>(
            "ID FROM information_schema.PROCESSLIST \
             WHERE USER = SUBSTRING_INDEX(USER(), '@', 1) AND ID <> CONNECTION_ID()",
        );
        let others: Vec<u64> = select(others).get_results(self)?;
        let ended = others.iter().filter(|id| self.batch_execute(&format!("KILL {id}")).is_ok());
        Ok(ended.count())
    }

    fn end_this(&mut self) -> QueryResult<()> {
        let id: u64 = select(sql::<Unsigned<Bigint>>("CONNECTION_ID()")).get_result(self)?;
        self.batch_execute(&format!("KILL {id}"))
    }
}

/// 1040, 1203 and 1226.
const FULL: &[&str] = &["Too many connections", "max_user_connections", "has exceeded the"];

/// 1044, 1045, 1698, 3118 and 4151.
const REFUSED: &[&str] = &["Access denied for user", "Access denied, ", "Account is locked"];

/// 1053, 2002, 2003, 2006 and 2013.
const UNAVAILABLE: &[&str] = &[
    "Can't connect to",
    "Lost connection",
    "has gone away",
    "Server shutdown in progress",
    "Unknown MySQL server host",
    "Unknown server host",
    "is blocked because of many connection errors",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_is_understood_or_left_open() {
        for (message, kind) in [
            ("Access denied for user 'v-a'@'localhost' (using password: YES)", ErrorKind::CredentialsRefused),
            ("Access denied for user 'v-a'@'%' to database 'app'", ErrorKind::CredentialsRefused),
            ("Too many connections", ErrorKind::DatabaseFull),
            (
                "User 'v-a' has exceeded the 'max_user_connections' resource (current value: 1)",
                ErrorKind::DatabaseFull,
            ),
            ("Unknown database 'app'", ErrorKind::Configuration),
            ("Can't connect to server on '127.0.0.1' (111)", ErrorKind::DatabaseUnavailable),
            (
                "Lost connection to server at 'handshake: reading initial communication packet'",
                ErrorKind::DatabaseUnavailable,
            ),
            ("Zugriff verweigert", ErrorKind::Unexpected),
        ] {
            assert_eq!(MysqlConnection::kind_of(message), kind, "{message}");
        }
    }
}
