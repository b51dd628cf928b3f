//! A connection of our own, outside the pool.

use std::time::Duration;

use leasehold_core::{Credentials, ExposeSecret};
use sqlx::{
    Connection, PgConnection, Row,
    postgres::{PgConnectOptions, types::Oid},
};
use tokio::time::timeout;

use crate::error;

/// A session that proved credentials, and what the server says about its user.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// Who the server says we are; behind a proxy, not the username.
    pub(crate) user: String,
    pub(crate) role: Option<Role>,
}

/// The user as the database knows it.
#[derive(Clone, Copy)]
pub(crate) struct Role {
    pub(crate) oid: u32,
    /// Its `CONNECTION LIMIT`.
    pub(crate) limit: Option<u32>,
}

/// How many sessions a user has, and whether the user still exists.
pub(crate) struct Census {
    pub(crate) sessions: usize,
    pub(crate) exists: bool,
}

/// `base` with these credentials, both parts of them: what the environment or a password file said is overwritten.
pub(crate) fn options(base: &PgConnectOptions, credentials: &Credentials) -> PgConnectOptions {
    base.clone().username(credentials.username()).password(credentials.password().expose_secret())
}

/// Opens a session and asks who it is: a handshake alone would not show that the user was dropped meanwhile.
///
/// # Errors
/// What sqlx returns; an I/O error of kind `TimedOut` if it took longer than `within`.
pub(crate) async fn open(
    base: &PgConnectOptions,
    credentials: &Credentials,
    within: Duration,
) -> Result<Session, sqlx::Error> {
    let opening = async {
        let mut connection = PgConnection::connect_with(&options(base, credentials)).await?;
        let user = session_user(&mut connection).await?;
        // Nobody has to let us read the catalogue.
        let role = role(&mut connection).await.ok();
        Ok(Session { connection, user, role })
    };
    timeout(within, opening).await.unwrap_or_else(|_| Err(error::timed_out()))
}

/// Who the server says we are. A simple query: nothing is prepared, so proxies and the statement cache are left alone.
pub(crate) async fn session_user(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::raw_sql("SELECT session_user::text").fetch_one(connection).await?.try_get(0)
}

async fn role(connection: &mut PgConnection) -> Result<Role, sqlx::Error> {
    let sql = "SELECT oid, rolconnlimit FROM pg_roles WHERE rolname = session_user";
    let row = sqlx::raw_sql(sql).fetch_one(connection).await?;
    let limit: i32 = row.try_get(1)?;
    Ok(Role { oid: row.try_get::<Oid, _>(0)?.0, limit: u32::try_from(limit).ok() })
}

/// Counts the sessions of a user, which any user may. `role` finds them after the user was dropped, when they have no
/// name any more.
pub(crate) async fn census(
    connection: &mut PgConnection,
    username: &str,
    role: Option<u32>,
) -> Result<Census, sqlx::Error> {
    let sql = "SELECT (SELECT count(*) FROM pg_stat_activity WHERE usename = $1 OR usesysid = $2), \
               EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
    let query = sqlx::query(sql).bind(username).bind(role.map(Oid)).persistent(false);
    let row = query.fetch_one(connection).await?;
    let sessions: i64 = row.try_get(0)?;
    Ok(Census { sessions: usize::try_from(sessions).unwrap_or(0), exists: row.try_get(1)? })
}

/// Ends the other sessions of the user that `connection` belongs to.
pub(crate) async fn terminate_others(connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE usename = session_user AND pid <> pg_backend_pid()";
    let ended: i64 = sqlx::raw_sql(sql).fetch_one(connection).await?.try_get(0)?;
    Ok(usize::try_from(ended).unwrap_or(0))
}

/// Says goodbye, but not to a server that does not listen.
pub(crate) async fn close(connection: PgConnection) {
    let _ = timeout(GOODBYE, connection.close()).await;
}

const GOODBYE: Duration = Duration::from_secs(1);
