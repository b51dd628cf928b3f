//! What the rotation needs of a database, and what differs between them.

#[cfg(feature = "any")]
pub(crate) mod any;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;

use std::{borrow::Cow, future::Future, pin::Pin};

use leasehold_core::{Credentials, Error, ErrorKind, Party, Result};
use url::Url;

pub(crate) type BoxFuture<'c, T> =
    Pin<Box<dyn Future<Output = std::result::Result<T, sqlx::Error>> + Send + 'c>>;

/// How a database's connections are opened.
pub(crate) type Options<D> = <<D as sqlx::Database>::Connection as sqlx::Connection>::Options;

/// One of sqlx's databases. Users name it through the aliases of [`Builder`](crate::Builder), and cannot implement it.
#[expect(unnameable_types, reason = "sealed")]
pub trait Database: sqlx::Database {
    /// The schemes of its URLs.
    const SCHEMES: &'static [&'static str];

    /// What to ask it, and how. Whoever has an answer has passed [`check`](Self::check).
    fn dialect(base: &Options<Self>) -> &'static Dialect;

    /// Refuses options that cannot work.
    fn check(base: &Options<Self>) -> Result<()>;

    /// Reads a URL that holds no credentials.
    fn parse(url: Url) -> std::result::Result<Options<Self>, sqlx::Error>;

    /// `base` with these credentials, both parts of them: what the environment or a password file said is overwritten.
    fn with(base: &Options<Self>, credentials: &Credentials) -> Options<Self>;

    /// Where it connects to, for people. Options are never printed whole, because their `Debug` tells the password.
    fn address(base: &Options<Self>) -> String;

    /// The database's name, if one is named.
    fn database(base: &Options<Self>) -> Option<String>;

    /// Runs a statement and returns the first column of its first row, which must be text or NULL. Without arguments
    /// nothing is prepared, so proxies and the statement cache are left alone.
    fn ask<'c>(
        connection: &'c mut Self::Connection,
        sql: Cow<'static, str>,
        arguments: Vec<String>,
    ) -> BoxFuture<'c, Option<String>>;
}

/// The statements of one database. Each answers one text.
#[expect(unnameable_types, reason = "of a sealed trait")]
#[derive(Debug)]
pub struct Dialect {
    /// Who the server says we are; behind a proxy, not the username.
    pub(crate) who: &'static str,
    /// The user's name in the answer to `who`.
    pub(crate) name: fn(&str) -> &str,
    /// Fails in a session whose user was dropped.
    pub(crate) presence: &'static str,
    /// The number that the sessions of this user keep when it is dropped, if there is one, and how many it may have, or
    /// a number below zero: parted by a space.
    pub(crate) role: &'static str,
    /// Whether a user sees the sessions of others. If not, a session of their own must count them.
    pub(crate) sees_others: bool,
    /// How many sessions a user has, and whether the user is there (`1`, `0`). Its arguments are the name and the number.
    /// Where others are not seen: how many others the session's own user has, without arguments; but not those that count.
    pub(crate) count: &'static str,
    /// Marks the session as one that only counts.
    pub(crate) mark: Option<&'static str>,
    /// The smallest id above this one of another session of the session's own user.
    pub(crate) next_other: fn(u64) -> String,
    /// Ends the session of this id.
    pub(crate) end: fn(u64) -> String,
    /// Ends the session that it is asked in.
    pub(crate) end_own: &'static str,
}

/// What a user writes, without credentials in it.
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration), without what was in it.
pub(crate) fn parse<D: Database>(url: &str) -> Result<Options<D>> {
    let url: Url = url.parse().map_err(|error| configuration(format!("the database URL: {error}")))?;
    if !D::SCHEMES.contains(&url.scheme()) {
        let schemes = D::SCHEMES.join(":// or ");
        return Err(configuration(format!("the database URL does not begin with {schemes}://")));
    }
    refuse_credentials(&url)?;
    D::parse(url).map_err(|error| configuration(format!("the database URL: {error}")))
}

/// They would never be used, and a password in a URL ends up in logs and process lists.
pub(crate) fn refuse_credentials(url: &Url) -> Result<()> {
    let named = url.query_pairs().any(|(key, _)| matches!(&*key, "user" | "password"));
    if named || !url.username().is_empty() || url.password().is_some() {
        let why = "the database URL holds credentials, which would never be used: they come from Vault. \
                   Remove them from it, and change that password, which was readable where the URL was";
        return Err(configuration(why));
    }
    Ok(())
}

pub(crate) fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}

/// The body of [`Database::ask`], which is the same for each, and cannot be written once: sqlx's bounds on executors
/// and arguments do not carry over to a generic function.
macro_rules! ask {
    ($connection:ident, $sql:ident, $arguments:ident) => {
        Box::pin(async move {
            let sql = sqlx::AssertSqlSafe($sql);
            let row = if $arguments.is_empty() {
                sqlx::raw_sql(sql).fetch_optional($connection).await?
            } else {
                let query = $arguments.into_iter().fold(sqlx::query(sql), sqlx::query::Query::bind);
                query.persistent(false).fetch_optional($connection).await?
            };
            row.map_or(Ok(None), |row| sqlx::Row::try_get(&row, 0))
        })
    };
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
use ask;
