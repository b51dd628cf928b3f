//! MySQL and MariaDB.

use std::borrow::Cow;

use leasehold_core::{Credentials, ExposeSecret, Result};
use sqlx::{ConnectOptions, MySqlConnection, mysql::MySqlConnectOptions};
use url::Url;

use super::{BoxFuture, Database, Dialect, ask};
use crate::Builder;

/// Builds a [`MySqlPool`](sqlx::MySqlPool) that changes credentials.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// # use sqlx::mysql::MySqlConnectOptions;
/// # async fn example(current: Current<Credentials>) -> Result<()> {
/// let options = MySqlConnectOptions::new().host("db").database("orders");
/// let pool: sqlx::MySqlPool = leasehold_sqlx::MySql::new(options)
///     .max_connections(16)
///     .after_connect(|connection, _| Box::pin(async move {
///         sqlx::query("SET SESSION lock_wait_timeout = 5").execute(connection).await?;
///         Ok(())
///     }))
///     .connect(current)
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// A URL is `mysql://host:port/database?ssl-mode=…` or `mariadb://…`, with the parameters that sqlx knows. It may leave the
/// database out, as the options may: no database is named after a user here.
///
/// ```
/// use leasehold_sqlx::MySql;
///
/// assert!(MySql::from_url("mysql://db:3306/orders?ssl-mode=verify_identity").is_ok());
/// assert!(MySql::from_url("mariadb://db").is_ok());
/// let error = MySql::from_url("mysql://me:secret@db/orders").unwrap_err();
/// assert!(!error.to_string().contains("secret"));
/// ```
pub type MySql = Builder<sqlx::MySql>;

impl Database for sqlx::MySql {
    const SCHEMES: &'static [&'static str] = &["mysql", "mariadb"];

    fn dialect(_base: &MySqlConnectOptions) -> &'static Dialect {
        &MYSQL
    }

    fn check(_base: &MySqlConnectOptions) -> Result<()> {
        Ok(())
    }

    fn parse(url: Url) -> std::result::Result<MySqlConnectOptions, sqlx::Error> {
        MySqlConnectOptions::from_url(&url)
    }

    fn with(base: &MySqlConnectOptions, credentials: &Credentials) -> MySqlConnectOptions {
        base.clone().username(credentials.username()).password(credentials.password().expose_secret())
    }

    fn address(base: &MySqlConnectOptions) -> String {
        format!("{}:{}", base.get_host(), base.get_port())
    }

    fn database(base: &MySqlConnectOptions) -> Option<String> {
        base.get_database().map(str::to_owned)
    }

    fn ask<'c>(
        connection: &'c mut MySqlConnection,
        sql: Cow<'static, str>,
        arguments: Vec<String>,
    ) -> BoxFuture<'c, Option<String>> {
        ask!(connection, sql, arguments)
    }
}

/// Other sessions of the session's own user; who may see everybody's would count them. Names differ by case.
macro_rules! others {
    () => {
        "CAST(USER AS BINARY) = CAST(LEFT(USER(), CHAR_LENGTH(USER()) - LOCATE('@', REVERSE(USER()))) AS BINARY) \
         AND ID <> CONNECTION_ID() AND IS_USED_LOCK(CONCAT('leasehold-counts-', ID)) IS NULL"
    };
}

pub(super) static MYSQL: Dialect = Dialect {
    who: "SELECT USER()",
    // `name@host`, and a name may have that character in it.
    name: |answer| answer.rsplit_once('@').map_or(answer, |(name, _)| name),
    // Who was dropped may go on reading and writing; but this looks into the table of users.
    presence: "SHOW GRANTS",
    // The user's own limit, or everybody's; 0 is none.
    role: "SELECT CONCAT('- ', IF(@@SESSION.max_user_connections > 0, @@SESSION.max_user_connections, -1))",
    sees_others: false,
    count: concat!("SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.PROCESSLIST WHERE ", others!()),
    // A lock of a name that no other session has. Two pools that share credentials would else wait for each other's.
    mark: Some("SELECT CAST(GET_LOCK(CONCAT('leasehold-counts-', CONNECTION_ID()), 0) AS CHAR)"),
    next_other: |id| {
        format!(
            "SELECT CAST(MIN(ID) AS CHAR) FROM information_schema.PROCESSLIST WHERE {} AND ID > {id}",
            others!()
        )
    },
    end: |id| format!("KILL {id}"),
    end_own: "KILL CONNECTION_ID()",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_last_at_sign() {
        for (answer, name) in [("v-a@127.0.0.1", "v-a"), ("a@b@host", "a@b"), ("@host", "")] {
            assert_eq!((MYSQL.name)(answer), name);
        }
    }
}
