//! PostgreSQL.

use std::borrow::Cow;

use leasehold_core::{Credentials, ExposeSecret, Result};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use url::Url;

use super::{BoxFuture, Database, Dialect, ask, configuration};
use crate::Builder;

/// Builds a [`PgPool`](sqlx::PgPool) that changes credentials.
///
/// Its options must name the database: PostgreSQL would look for one that is named after the user.
///
/// ```no_run
/// # use leasehold_core::{Credentials, Current, Result};
/// # use sqlx::postgres::PgConnectOptions;
/// # async fn example(current: Current<Credentials>) -> Result<()> {
/// let options = PgConnectOptions::new_without_pgpass().host("db").database("orders");
/// let pool: sqlx::PgPool = leasehold_sqlx::Postgres::new(options)
///     .max_connections(16)
///     .after_connect(|connection, _| Box::pin(async move {
///         sqlx::query("SET statement_timeout = '5s'").execute(connection).await?;
///         Ok(())
///     }))
///     .connect(current)
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// A URL is `postgres://host:port/database?sslmode=…`, with the parameters that sqlx knows.
///
/// ```
/// use leasehold_sqlx::Postgres;
///
/// assert!(Postgres::from_url("postgres://db:5432/orders?sslmode=verify-full").is_ok());
/// let error = Postgres::from_url("postgres://me:secret@db/orders").unwrap_err();
/// assert!(!error.to_string().contains("secret"));
/// ```
pub type Postgres = Builder<sqlx::Postgres>;

impl Database for sqlx::Postgres {
    const SCHEMES: &'static [&'static str] = &["postgres", "postgresql"];

    fn dialect(_base: &PgConnectOptions) -> &'static Dialect {
        &POSTGRES
    }

    fn check(base: &PgConnectOptions) -> Result<()> {
        base.get_database().map(drop).ok_or_else(|| configuration(NAMELESS))
    }

    fn parse(mut url: Url) -> std::result::Result<PgConnectOptions, sqlx::Error> {
        // Without a password sqlx would look for one in ~/.pgpass, and complain about that file's permissions.
        url.query_pairs_mut().append_pair("password", "none");
        PgConnectOptions::from_url(&url)
    }

    fn with(base: &PgConnectOptions, credentials: &Credentials) -> PgConnectOptions {
        base.clone().username(credentials.username()).password(credentials.password().expose_secret())
    }

    fn address(base: &PgConnectOptions) -> String {
        format!("{}:{}", base.get_host(), base.get_port())
    }

    fn database(base: &PgConnectOptions) -> Option<String> {
        base.get_database().map(str::to_owned)
    }

    fn ask<'c>(
        connection: &'c mut PgConnection,
        sql: Cow<'static, str>,
        arguments: Vec<String>,
    ) -> BoxFuture<'c, Option<String>> {
        ask!(connection, sql, arguments)
    }
}

pub(super) const NAMELESS: &str =
    "no database is named; PostgreSQL would look for one named after the user, whose name changes";

pub(super) static POSTGRES: Dialect = Dialect {
    who: "SELECT session_user::text",
    name: |answer| answer,
    presence: "SELECT session_user::text",
    role: "SELECT oid || ' ' || rolconnlimit FROM pg_roles WHERE rolname = session_user",
    sees_others: true,
    // After `DROP ROLE` its sessions have no name any more.
    count: "SELECT count(*) || CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = $1) THEN ' 1' ELSE ' 0' END \
            FROM pg_stat_activity WHERE usename = $1 OR usesysid::text = $2",
    mark: None,
    next_other: |id| {
        format!(
            "SELECT min(pid)::text FROM pg_stat_activity \
             WHERE usename = session_user AND pid <> pg_backend_pid() AND pid > {id}"
        )
    },
    end: |id| format!("SELECT pg_terminate_backend({id})::text"),
    end_own: "SELECT pg_terminate_backend(pg_backend_pid())::text",
};
