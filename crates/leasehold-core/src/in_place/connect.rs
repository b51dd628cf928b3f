//! Pools whose adapter is told how to open a connection, and nothing else.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use super::{Freshness, InForce, Tag, Tries, answered_within};
use crate::{Credentials, Current, ErrorKind, Issued, Result, clock::within};

/// How to open a connection, and what to do with it. Implement it for a database or a driver of your own; an `async fn` does
/// for each method that returns a future.
pub trait Connect: Send + Sync + 'static {
    /// What the pool hands out.
    type Connection: Send + 'static;

    /// Opens a connection with these credentials.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused) only if the database refuses the credentials themselves:
    /// [`ErrorKind::of_sqlstate`] and [`ErrorKind::of_mysql`] know. [`DatabaseFull`](ErrorKind::DatabaseFull) if it has no
    /// room for another connection.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than [`Settings::handshake`](super::Settings::handshake).
    fn connect(&self, credentials: &Credentials) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Whether a connection still works, as the pool asks when it hands one out.
    ///
    /// # Errors
    /// If it does not: the pool closes it and hands out another.
    ///
    /// # Cancel safety
    /// Dropped with the caller, or when that has waited for as long as the pool lets it.
    fn check(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<()>> + Send;

    /// Whether a connection is known to be broken, without asking the database.
    fn has_broken(&self, _connection: &mut Self::Connection) -> bool {
        false
    }

    /// Asks the database whether it still knows the connection's user, every other second and on one connection.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused) if it does not.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than [`Settings::handshake`](super::Settings::handshake); the connection is then closed.
    fn ask(&self, _connection: &mut Self::Connection) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Has the server end the session of this connection, which is kept. That makes room on a full server while the place in
    /// the pool is taken still; otherwise the place is given up, and the pool may open another connection first, with old
    /// credentials. Returns whether it was tried.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than two seconds.
    fn end(&self, _connection: &mut Self::Connection) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Ends what else the user of this connection has open on the server, and returns how many that were. Called with a
    /// connection of credentials that are about to end, if the [settings](super::Settings::terminate) say so.
    ///
    /// # Errors
    /// If that cannot be done.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than [`Settings::handshake`](super::Settings::handshake).
    fn terminate_others(
        &self,
        _connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<usize>> + Send {
        async { Ok(0) }
    }

    /// Closes a connection that the pool has no place for any more. It must bound its own time.
    ///
    /// # Cancel safety
    /// Dropped with the pool.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        async { drop(connection) }
    }
}

/// A connection, and what opened it. It derefs to the connection.
pub struct Tagged<T> {
    connection: T,
    // After the connection, so that it counts until that is closed.
    tag: Tag,
}

impl<T> Tagged<T> {
    /// The credentials that opened it. Holding them keeps them from being revoked.
    pub fn issued(&self) -> &Arc<Issued<Credentials>> {
        self.tag.issued()
    }

    /// What rides along with it.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Closes it, and lets go of its credentials afterwards.
    pub async fn close<C: Connect<Connection = T>>(self, connect: &C) {
        connect.close(self.connection).await;
        drop(self.tag);
    }
}

impl<T> Deref for Tagged<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.connection
    }
}

impl<T> DerefMut for Tagged<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.connection
    }
}

impl<T> fmt::Debug for Tagged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagged").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl InForce {
    /// Opens a connection for a caller of the pool, with what is in force. Credentials that were revoked, or whose password
    /// was replaced, are noticed here first: the keeper is told, and the caller gets a connection with their successor, for
    /// which it [waits](Self::try_again) up to five seconds. Where a handshake took longer than its credentials lasted,
    /// there is another.
    ///
    /// # Errors
    /// What the [`Connect`] says; [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable) if it takes longer than `handshake`;
    /// [`Closed`](ErrorKind::Closed) if the pool's rotation has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn open<C: Connect>(
        self: &Arc<Self>,
        connect: &C,
        current: &Current<Credentials>,
        handshake: Duration,
    ) -> Result<Tagged<C::Connection>> {
        let (mut tries, mut was_late) = (Tries::default(), false);
        loop {
            let issued = self.get()?;
            let generation = issued.generation();
            match self.open_with(self.tag(issued), connect, handshake).await {
                Err(refused) if refused.kind() == ErrorKind::CredentialsRefused => {
                    if !self.try_again(generation, current, &mut tries).await {
                        return Err(refused);
                    }
                }
                Ok(late) if late.tag.freshness() == Freshness::Ended && !was_late => {
                    was_late = true;
                    late.close(connect).await;
                }
                answer => return answer,
            }
        }
    }

    /// Opens a connection with the tag's credentials, once.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn open_with<C: Connect>(
        &self,
        tag: Tag,
        connect: &C,
        handshake: Duration,
    ) -> Result<Tagged<C::Connection>> {
        let connecting = connect.connect(tag.issued().secret());
        let connection = answered_within(self.clock(), handshake, connecting).await?;
        // The pool may have been closed meanwhile, and keep what it is given all the same.
        self.get()?;
        Ok(Tagged { connection, tag })
    }
}

/// Has the server end a connection's session, in bounded time. Returns whether it was tried, and the connection's place in the
/// pool can be kept: [`Slots::make_room`](super::Slots::make_room) by way of a [`Connect`].
///
/// # Cancel safety
/// What was ended stays ended.
pub async fn end_session<C: Connect>(
    connect: &C,
    in_force: &InForce,
    connection: &mut C::Connection,
) -> bool {
    within(in_force.clock(), LONGEST_END, connect.end(connection)).await.unwrap_or(true)
}

/// Ends the sessions of these credentials on the server, as their user, and returns how many there were:
/// [`Slots::terminate`](super::Slots::terminate) by way of a [`Connect`].
///
/// # Errors
/// Whatever kept it from doing so.
///
/// # Cancel safety
/// What was ended stays ended.
pub async fn terminate_all_of<C: Connect>(connect: &C, old: &Issued<Credentials>) -> Result<usize> {
    let mut connection = connect.connect(old.secret()).await?;
    let ended = connect.terminate_others(&mut connection).await;
    connect.close(connection).await;
    ended
}

const LONGEST_END: Duration = Duration::from_secs(2);
