//! Pools of mysql_async's connections, to MySQL or MariaDB.

use std::{fmt, time::Duration};

use leasehold_core::{Credentials, Error, ErrorKind, ExposeSecret, Party, Result};
use mysql_async::{ChangeUserOpts, Conn, Opts, OptsBuilder, prelude::Queryable};
use tokio::time::timeout;

use crate::Connect;

/// A [`deadpool::managed::Pool`] of [`Conn`]s that rotates.
pub type Pool = crate::Pool<MySql>;

/// Opens connections to MySQL or MariaDB.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// use leasehold_deadpool::{Manager, Settings, build, mysql::{MySql, Pool}};
/// use mysql_async::OptsBuilder;
///
/// # async fn example(login: Current<Credentials>) -> Result<()> {
/// let options = OptsBuilder::default().ip_or_hostname("db.example").db_name(Some("pipeline"));
/// let manager = Manager::new(MySql::new(options), login)?;
/// let pool: Pool = build(Pool::builder(manager).max_size(16), Settings::default()).await?;
/// # Ok(())
/// # }
/// ```
pub struct MySql {
    options: Opts,
}

impl MySql {
    /// Connects as `options` say, but for user and password. Of their options for a pool one is heeded: whether a connection
    /// is reset before it is handed out again.
    pub fn new(options: impl Into<Opts>) -> Self {
        Self { options: options.into() }
    }
}

impl Connect for MySql {
    type Connection = Conn;

    async fn connect(&self, credentials: &Credentials) -> Result<Conn> {
        let options = OptsBuilder::from_opts(self.options.clone())
            .user(Some(credentials.username()))
            .pass(Some(credentials.password().expose_secret()));
        Conn::new(options).await.map_err(|error| translate(Some(credentials.username()), &error))
    }

    /// Resets it, as mysql_async's own pool does: what a caller left open, a transaction or a temporary table, is gone.
    async fn check(&self, connection: &mut Conn) -> Result<()> {
        is_between_commands(connection)?;
        let checked = match self.options.pool_opts().reset_connection() {
            false => connection.ping().await,
            true => match connection.reset().await {
                // The server is too old for it.
                Ok(false) => connection.change_user(ChangeUserOpts::default()).await,
                answer => answer.map(drop),
            },
        };
        checked.map_err(|error| translate(connection.opts().user(), &error))
    }

    /// An open session of a user that was dropped goes on reading and writing; what looks its grants up does not.
    async fn ask(&self, connection: &mut Conn) -> Result<()> {
        is_between_commands(connection)?;
        let answer = connection.query_drop("SHOW GRANTS").await;
        answer.map_err(|error| translate(connection.opts().user(), &error))
    }

    async fn end(&self, connection: &mut Conn) -> bool {
        if is_between_commands(connection).is_err() {
            return false;
        }
        let kill = format!("KILL {}", connection.id());
        // Nobody is left to say that it is done.
        let _ = connection.query_drop(kill).await;
        true
    }

    /// A user may end its own sessions without a privilege.
    async fn terminate_others(&self, connection: &mut Conn) -> Result<usize> {
        let user = connection.opts().user().unwrap_or_default().to_owned();
        let others = "SELECT id FROM information_schema.processlist WHERE user = ? AND id <> CONNECTION_ID()";
        let others: Vec<u64> =
            connection.exec(others, (&user,)).await.map_err(|error| translate(Some(&user), &error))?;
        let mut ended = 0;
        for id in others {
            match connection.query_drop(format!("KILL {id}")).await {
                Ok(()) => ended += 1,
                // It has gone by itself.
                Err(mysql_async::Error::Server(refusal)) if refusal.code == NO_SUCH_THREAD => {}
                Err(error) => return Err(translate(Some(&user), &error)),
            }
        }
        Ok(ended)
    }

    async fn close(&self, connection: Conn) {
        let _ = timeout(LONGEST_CLOSE, connection.disconnect()).await;
    }
}

/// Where a caller gave up waiting, the answer is still to come, and the next command would take it for its own. mysql_async
/// calls such a connection disconnected, until that next command is done.
fn is_between_commands(connection: &Conn) -> Result<()> {
    match connection.is_disconnected() {
        true => Err(Error::new(
            ErrorKind::DatabaseUnavailable,
            Party::Database,
            "a command of a caller's was not waited for",
        )),
        false => Ok(()),
    }
}

fn translate(user: Option<&str>, error: &mysql_async::Error) -> Error {
    let (kind, message) = match error {
        mysql_async::Error::Server(refusal) => {
            (ErrorKind::of_mysql(refusal.code), format!("{} (error {})", refusal.message, refusal.code))
        }
        mysql_async::Error::Io(error) => (ErrorKind::DatabaseUnavailable, error.to_string()),
        mysql_async::Error::Driver(error) => (ErrorKind::DatabaseUnavailable, error.to_string()),
        mysql_async::Error::Url(error) => (ErrorKind::Configuration, error.to_string()),
        mysql_async::Error::Other(error) => (ErrorKind::Unexpected, error.to_string()),
    };
    let user = user.map_or_else(String::new, |user| format!("as {user}: "));
    Error::new(kind, Party::Database, format!("{user}{message}"))
}

/// mysql_async's options print their password.
impl fmt::Debug for MySql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySql")
            .field("host", &self.options.ip_or_hostname())
            .field("database", &self.options.db_name())
            .finish_non_exhaustive()
    }
}

const NO_SUCH_THREAD: u16 = 1094;
const LONGEST_CLOSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_no_password() {
        let options = OptsBuilder::default().ip_or_hostname("db.example").pass(Some("hunter2"));
        let text = format!("{:?}", MySql::new(options));
        assert!(text.contains("db.example") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_refusal_has_its_kind_and_its_number() {
        let refusal = mysql_async::ServerError {
            code: 1045,
            message: "Access denied for user 'name'@'db' (using password: YES)".to_owned(),
            state: "28000".to_owned(),
        };
        let error = translate(Some("name"), &mysql_async::Error::Server(refusal));
        assert_eq!(error.kind(), ErrorKind::CredentialsRefused);
        assert!(error.message().contains("1045") && error.message().starts_with("as name"), "{error}");
    }
}
