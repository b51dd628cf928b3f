//! A connection of our own, outside the pool; and what is asked of any.

use std::{borrow::Cow, time::Duration};

use leasehold_core::Credentials;
use sqlx::Connection;
use tokio::time::timeout;

use crate::{
    database::{Database, Dialect, Options},
    error,
    gate::Superseded,
};

/// A session that proved credentials, and what the server says about its user.
pub(crate) struct Session<D: Database> {
    pub(crate) connection: D::Connection,
    /// Who the server says we are; behind a proxy, not the username.
    pub(crate) user: String,
    pub(crate) role: Option<Role>,
}

/// The user as the database knows it.
#[derive(Clone, Copy)]
pub(crate) struct Role {
    /// What its sessions keep when it is dropped.
    pub(crate) number: Option<u32>,
    /// How many sessions it may have.
    pub(crate) limit: Option<u32>,
}

/// How many sessions a user has, and whether the user still exists.
pub(crate) struct Census {
    /// `None` if nobody is left who sees them.
    pub(crate) sessions: Option<usize>,
    pub(crate) exists: bool,
}

/// Opens a session and asks who it is: a handshake alone would not show that the user was dropped meanwhile.
///
/// # Errors
/// What sqlx returns; an I/O error of kind `TimedOut` if it took longer than `within`.
pub(crate) async fn open<D: Database>(
    base: &Options<D>,
    credentials: &Credentials,
    within: Duration,
) -> Result<Session<D>, sqlx::Error> {
    let opening = async {
        let mut connection = D::Connection::connect_with(&D::with(base, credentials)).await?;
        let dialect = D::dialect(base);
        let user = user::<D>(&mut connection, dialect).await?;
        // Nobody has to let us read the catalogue.
        let role = role::<D>(&mut connection, dialect).await.ok().flatten();
        Ok(Session { connection, user, role })
    };
    timeout(within, opening).await.unwrap_or_else(|_| Err(error::timed_out()))
}

/// As [`open`], and runs a statement that they must be able to run, whatever its answer is.
pub(crate) async fn prove<D: Database>(
    base: &Options<D>,
    credentials: &Credentials,
    statement: Option<&'static str>,
    within: Duration,
) -> Result<Session<D>, sqlx::Error> {
    let proving = async {
        let mut session = open::<D>(base, credentials, within).await?;
        match statement {
            Some(statement) => match ask::<D>(&mut session.connection, statement).await {
                Ok(_)
                | Err(sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnIndexOutOfBounds { .. }) => {
                    Ok(session)
                }
                Err(error) => Err(error),
            },
            None => Ok(session),
        }
    };
    timeout(within, proving).await.unwrap_or_else(|_| Err(error::timed_out()))
}

/// Who the server says we are.
pub(crate) async fn user<D: Database>(
    connection: &mut D::Connection,
    dialect: &Dialect,
) -> Result<String, sqlx::Error> {
    let answer = ask::<D>(connection, dialect.who).await?.unwrap_or_default();
    Ok((dialect.name)(&answer).to_owned())
}

/// Fails if the session's user was dropped.
pub(crate) async fn presence<D: Database>(
    connection: &mut D::Connection,
    dialect: &Dialect,
) -> Result<(), sqlx::Error> {
    ask::<D>(connection, dialect.presence).await.map(drop)
}

async fn role<D: Database>(
    connection: &mut D::Connection,
    dialect: &Dialect,
) -> Result<Option<Role>, sqlx::Error> {
    let answer = ask::<D>(connection, dialect.role).await?.unwrap_or_default();
    let role =
        |(number, limit): (&str, &str)| Role { number: number.parse().ok(), limit: limit.parse().ok() };
    Ok(answer.split_once(' ').map(role))
}

/// Counts the sessions of superseded credentials: on any session, or on one of its own where nobody sees others'.
pub(crate) async fn census<D: Database>(
    connection: &mut D::Connection,
    dialect: &Dialect,
    old: &Superseded,
) -> Result<Census, sqlx::Error> {
    if dialect.sees_others {
        let number = old.role.map(|number| number.to_string()).unwrap_or_default();
        let arguments = vec![old.issued.secret().username().to_owned(), number];
        let answer = D::ask(connection, Cow::Borrowed(dialect.count), arguments).await?.unwrap_or_default();
        let (sessions, exists) = answer.split_once(' ').ok_or_else(|| unclear(&answer))?;
        let exists = exists == "1";
        // The sessions of a user that was dropped have no name any more, and nobody noted its number.
        let sessions = if exists || old.role.is_some() { Some(number_in(sessions)?) } else { None };
        return Ok(Census { sessions, exists });
    }
    let exists = match presence::<D>(connection, dialect).await {
        Ok(()) => true,
        Err(error) if error::is_refused(&error) => false,
        Err(error) => return Err(error),
    };
    let sessions = ask::<D>(connection, dialect.count).await?.unwrap_or_default();
    Ok(Census { sessions: Some(number_in(&sessions)?), exists })
}

/// Makes a session one that only counts, and is not counted.
pub(crate) async fn mark<D: Database>(
    connection: &mut D::Connection,
    dialect: &Dialect,
) -> Result<(), sqlx::Error> {
    match dialect.mark {
        Some(mark) => ask::<D>(connection, mark).await.map(drop),
        None => Ok(()),
    }
}

/// Ends the other sessions of the user that `connection` belongs to, and returns how many there were.
pub(crate) async fn terminate_others<D: Database>(
    connection: &mut D::Connection,
    dialect: &Dialect,
) -> Result<usize, sqlx::Error> {
    let (mut ended, mut last) = (0, 0);
    while let Some(id) = ask::<D>(connection, (dialect.next_other)(last)).await? {
        last = number_in(&id)?;
        // One that has gone by itself is no failure.
        ended += usize::from(ask::<D>(connection, (dialect.end)(last)).await.is_ok());
    }
    Ok(ended)
}

/// Has the server end the session that is asked.
pub(crate) async fn end_own<D: Database>(connection: &mut D::Connection, dialect: &Dialect) {
    let _ = ask::<D>(connection, dialect.end_own).await;
}

/// Says goodbye, but not to a server that does not listen.
pub(crate) async fn close<C: Connection>(connection: C) {
    let _ = timeout(GOODBYE, connection.close()).await;
}

async fn ask<D: Database>(
    connection: &mut D::Connection,
    sql: impl Into<Cow<'static, str>>,
) -> Result<Option<String>, sqlx::Error> {
    D::ask(connection, sql.into(), Vec::new()).await
}

fn number_in<N: std::str::FromStr>(answer: &str) -> Result<N, sqlx::Error> {
    answer.parse().map_err(|_| unclear(answer))
}

fn unclear(answer: &str) -> sqlx::Error {
    sqlx::Error::Protocol(format!("`{answer}` is no answer to what was asked"))
}

const GOODBYE: Duration = Duration::from_secs(1);
