//! What a database's refusal means for the credentials it was given.

use crate::ErrorKind;

impl ErrorKind {
    /// The meaning of an error of PostgreSQL, by its SQLSTATE and its message. Only an error that speaks of the user refutes
    /// the credentials: every other may pass, and the credentials may be good. A right that is missing (42501) is no refusal:
    /// another user of the same role would lack it too, so it is to be granted in the role's creation statements.
    ///
    /// The message decides where the SQLSTATE says too little: 42704 is any object that does not exist, a type in a query of
    /// the application's for one, and also the role of an open session that was dropped.
    ///
    /// ```
    /// use leasehold_core::ErrorKind;
    ///
    /// assert_eq!(ErrorKind::of_sqlstate("28P01", ""), ErrorKind::CredentialsRefused);
    /// assert_eq!(ErrorKind::of_sqlstate("53300", ""), ErrorKind::DatabaseFull);
    /// assert_eq!(ErrorKind::of_sqlstate("42704", "invalid role OID: 16389"), ErrorKind::CredentialsRefused);
    /// assert_eq!(ErrorKind::of_sqlstate("42704", "type \"mood\" does not exist"), ErrorKind::Unexpected);
    /// ```
    pub fn of_sqlstate(sqlstate: &str, message: &str) -> Self {
        match sqlstate {
            // A wrong password, no such role, no rule that lets it in.
            _ if sqlstate.starts_with("28") => Self::CredentialsRefused,
            // "invalid role OID: 16389", the answer to `SELECT session_user` after `DROP ROLE`. The server may speak another
            // language, but in each the message ends with the OID; a message that names an object ends with words.
            "42704" if message.ends_with(|last: char| last.is_ascii_digit()) => Self::CredentialsRefused,
            "53300" => Self::DatabaseFull,
            // No such database, or one that accepts no connections; a right that is missing, to connect to it for one.
            "3D000" | "55000" | "42501" => Self::Configuration,
            // Other limits (53), shutting down or starting up (57), a connection that broke (08), a failure inside.
            _ if ["53", "57", "08", "58", "XX"].iter().any(|class| sqlstate.starts_with(class)) => {
                Self::DatabaseUnavailable
            }
            _ => Self::Unexpected,
        }
    }

    /// What an error number of MySQL or MariaDB means.
    pub fn of_mysql(number: u16) -> Self {
        match number {
            // Access denied: by password, to the database, by plugin; a session whose user was dropped.
            1044 | 1045 | 1141 | 1698 | 3118 | 4151 => Self::CredentialsRefused,
            // Too many connections: of the server, of the user.
            1040 | 1203 | 1226 => Self::DatabaseFull,
            // No such database; a right that is missing: to a table, to a column, to an operation, to a routine.
            1049 | 1142 | 1143 | 1227 | 1370 => Self::Configuration,
            // Shutting down, out of resources, the connection broke.
            1053 | 1129 | 1152 | 1158..=1161 | 1927 | 2002 | 2003 | 2006 | 2013 => Self::DatabaseUnavailable,
            _ => Self::Unexpected,
        }
    }

    /// What an error of Redis means, as the server words it: the first word is its code.
    ///
    /// ```
    /// use leasehold_core::ErrorKind;
    ///
    /// let refusal = "WRONGPASS invalid username-password pair or user is disabled.";
    /// assert_eq!(ErrorKind::of_redis(refusal), ErrorKind::CredentialsRefused);
    /// assert_eq!(ErrorKind::of_redis("ERR max number of clients reached"), ErrorKind::DatabaseFull);
    /// ```
    pub fn of_redis(error: &str) -> Self {
        match error.split(' ').next().unwrap_or_default() {
            // No such user, disabled, another password; no user any more; a user whose rights were taken.
            "WRONGPASS" | "NOAUTH" | "NOPERM" => Self::CredentialsRefused,
            "ERR" if error.contains("max number of clients") => Self::DatabaseFull,
            "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "READONLY" | "MISCONF"
            | "OOM" => Self::DatabaseUnavailable,
            _ => Self::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_speaks_of_the_user_refutes_the_credentials() {
        for (state, message, kind) in [
            ("28P01", "", ErrorKind::CredentialsRefused),
            ("28000", "", ErrorKind::CredentialsRefused),
            ("42704", "invalid role OID: 16389", ErrorKind::CredentialsRefused),
            ("42704", "ungültige Rollen-OID: 16389", ErrorKind::CredentialsRefused),
            ("42704", "type \"mood\" does not exist", ErrorKind::Unexpected),
            ("42704", "unrecognized configuration parameter \"app.v2\"", ErrorKind::Unexpected),
            ("42704", "", ErrorKind::Unexpected),
            ("42501", "permission denied for table jobs", ErrorKind::Configuration),
            ("53300", "", ErrorKind::DatabaseFull),
            ("53200", "", ErrorKind::DatabaseUnavailable),
            ("57P03", "", ErrorKind::DatabaseUnavailable),
            ("08006", "", ErrorKind::DatabaseUnavailable),
            ("3D000", "", ErrorKind::Configuration),
            ("22023", "", ErrorKind::Unexpected),
            ("", "", ErrorKind::Unexpected),
        ] {
            assert_eq!(ErrorKind::of_sqlstate(state, message), kind, "{state} {message}");
        }
        for (number, kind) in [
            (1045, ErrorKind::CredentialsRefused),
            (1698, ErrorKind::CredentialsRefused),
            (1040, ErrorKind::DatabaseFull),
            (1226, ErrorKind::DatabaseFull),
            (1053, ErrorKind::DatabaseUnavailable),
            (1142, ErrorKind::Configuration),
            (1227, ErrorKind::Configuration),
            (1064, ErrorKind::Unexpected),
        ] {
            assert_eq!(ErrorKind::of_mysql(number), kind, "{number}");
        }
        for (error, kind) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", ErrorKind::CredentialsRefused),
            ("NOAUTH Authentication required.", ErrorKind::CredentialsRefused),
            ("NOPERM User v has no permissions to run the 'ping' command", ErrorKind::CredentialsRefused),
            ("ERR max number of clients reached", ErrorKind::DatabaseFull),
            ("ERR max number of clients + cluster connections reached", ErrorKind::DatabaseFull),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::DatabaseUnavailable),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::DatabaseUnavailable),
            ("ERR unknown command", ErrorKind::Unexpected),
            ("", ErrorKind::Unexpected),
        ] {
            assert_eq!(ErrorKind::of_redis(error), kind, "{error}");
        }
    }
}
