//! Opens, checks and tags the connections of a pool.

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Issued, Party, Result,
    clock::Moment,
    in_place::{Connect, Freshness, InForce, Settings, Tag, Tagged},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::relay::Relay;

/// Opens the connections of a [`Pool`](crate::Pool) with whatever credentials are in force.
pub struct Manager<C: Connect> {
    pub(crate) shared: Arc<Shared<C>>,
    pub(crate) handshake: Duration,
}

/// What the pool's manager and its rotation both know.
pub(crate) struct Shared<C: Connect> {
    pub(crate) connect: C,
    pub(crate) in_force: Arc<InForce>,
    pub(crate) relay: Relay<C::Connection>,
    /// Until the pool is closed. bb8 goes on for half a minute with what it was about to open then, and that should keep
    /// no keeper alive.
    current: Mutex<Option<Current<Credentials>>>,
    /// Closed once the first credentials are proved: bb8 opens nothing before.
    unproved: Semaphore,
    /// What proved them, if the pool has a place for it only as one of its own.
    proof: Mutex<Option<Connection<C::Connection>>>,
    /// bb8's `max_lifetime`, which it does not tell its manager.
    pub(crate) max_lifetime: OnceLock<Duration>,
}

impl<C: Connect> Shared<C> {
    /// What `new` was given, until the pool is closed.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after that.
    pub(crate) fn current(&self) -> Result<Current<Credentials>> {
        lock(&self.current).clone().ok_or_else(|| {
            Error::new(ErrorKind::Closed, Party::Configuration, "the pool's rotation has ended")
        })
    }

    /// Lets bb8 open connections, the first of which is `proof`.
    pub(crate) fn proved(&self, proof: Option<Connection<C::Connection>>) {
        *lock(&self.proof) = proof;
        self.unproved.close();
    }

    /// Whether bb8 is about to close the place of a connection for its age, whichever connection is in it.
    pub(crate) fn expires(&self, connection: &Connection<C::Connection>) -> bool {
        self.max_lifetime.get().is_some_and(|longest| connection.place_since.elapsed() + MARGIN >= *longest)
    }

    /// Whether a connection that waits for a place is of use in one.
    pub(crate) fn is_of_use(&self, connection: &mut Connection<C::Connection>) -> bool {
        connection.tagged.tag().freshness() != Freshness::Ended && !self.connect.has_broken(connection)
    }

    /// Ends the rotation: nothing is opened, handed out or taken back any more.
    pub(crate) fn close(&self) {
        self.in_force.close();
        self.unproved.close();
        let (current, proof) = (lock(&self.current).take(), lock(&self.proof).take());
        drop((current, proof));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds it can leave it half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

tokio::task_local! {
    /// What the rotation has a connection opened with, before it is in force.
    pub(crate) static OPEN_WITH: Cell<Option<Tag>>;
    /// Set while the rotation looks at idle connections: it asks the database nothing then.
    pub(crate) static LOOKING: ();
}

impl<C: Connect> Manager<C> {
    /// A manager for [`build`](crate::build), whose first credentials are those that are current.
    ///
    /// # Errors
    /// [`NotYet`](ErrorKind::NotYet) and [`Closed`](ErrorKind::Closed) if there are no credentials.
    pub fn new(connect: C, current: Current<Credentials>) -> Result<Self> {
        let in_force = InForce::new(current.get()?, Arc::clone(current.clock()));
        let shared = Arc::new(Shared {
            connect,
            in_force,
            relay: Relay::default(),
            current: Mutex::new(Some(current)),
            unproved: Semaphore::new(0),
            proof: Mutex::default(),
            max_lifetime: OnceLock::new(),
        });
        Ok(Self { shared, handshake: Settings::default().handshake })
    }

    /// Where credentials are refused, one of their successor: bb8 would try the refused ones again and again.
    async fn open_in_force(&self) -> Result<Connection<C::Connection>> {
        let _closed = self.shared.unproved.acquire().await;
        let in_force = &self.shared.in_force;
        in_force.get()?;
        if let Some(proof) = lock(&self.shared.proof).take() {
            return Ok(proof);
        }
        let current = self.shared.current()?;
        Ok(self.place(in_force.open(&self.shared.connect, &current, self.handshake).await?))
    }

    async fn open(&self, tag: Tag) -> Result<Connection<C::Connection>> {
        let opened = self.shared.in_force.open_with(tag, &self.shared.connect, self.handshake);
        Ok(self.place(opened.await?))
    }

    fn place(&self, opened: Tagged<C::Connection>) -> Connection<C::Connection> {
        Connection {
            tagged: opened,
            place_since: Instant::now(),
            idle_since: self.now(),
            ours: false,
            condemned: false,
        }
    }

    async fn check(&self, connection: &mut Connection<C::Connection>) -> Result<()> {
        if !self.shared.in_force.is_uniform() {
            self.shared.in_force.get()?;
            if connection.tagged.tag().freshness() == Freshness::Ended {
                let message = "a connection was closed whose credentials have a successor, and end";
                return Err(Error::new(ErrorKind::CredentialsRefused, Party::Database, message));
            }
        }
        self.shared.connect.check(connection).await
    }

    fn now(&self) -> Moment {
        self.shared.in_force.clock().now()
    }
}

impl<C: Connect> bb8::ManageConnection for Manager<C> {
    type Connection = Connection<C::Connection>;
    type Error = Error;

    async fn connect(&self) -> Result<Self::Connection> {
        match OPEN_WITH.try_with(Cell::take) {
            Ok(Some(tag)) => self.open(tag).await,
            _ => self.open_in_force().await,
        }
    }

    async fn is_valid(&self, connection: &mut Self::Connection) -> Result<()> {
        if LOOKING.try_with(|()| ()).is_ok() {
            return Ok(());
        }
        let checked = self.check(connection).await;
        // bb8 shows it to `has_broken` before it closes it, and nothing is to be put in its place there.
        connection.condemned = checked.is_err();
        checked
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        let ours = std::mem::take(&mut connection.ours);
        if connection.condemned || self.shared.connect.has_broken(connection) {
            return true;
        }
        if !ours {
            connection.idle_since = self.now();
        }
        if self.shared.in_force.is_uniform() {
            return false;
        }
        if self.shared.in_force.get().is_err() {
            return true;
        }
        if !ours && !self.shared.expires(connection) {
            self.shared.relay.pass(connection, |fresh| self.shared.is_of_use(fresh));
        }
        connection.tagged.tag().freshness() == Freshness::Ended
    }
}

impl<C: Connect> fmt::Debug for Manager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("in_force", &self.shared.in_force).finish_non_exhaustive()
    }
}

/// A connection, and what opened it. It derefs to the connection.
pub struct Connection<T> {
    pub(crate) tagged: Tagged<T>,
    /// When its place was first filled, for bb8's reckoning of `max_lifetime`: on its clock, which stops in suspension.
    pub(crate) place_since: Instant,
    /// Since when no caller has had it. bb8's own reckoning begins anew whenever the rotation looks at it.
    pub(crate) idle_since: Moment,
    /// The rotation has it, and no caller.
    pub(crate) ours: bool,
    /// It is closed when it is given back.
    pub(crate) condemned: bool,
}

impl<T> Connection<T> {
    /// The credentials that opened it. Holding them keeps them from being revoked.
    pub fn issued(&self) -> &Arc<Issued<Credentials>> {
        self.tagged.issued()
    }
}

impl<T> Deref for Connection<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.tagged
    }
}

impl<T> DerefMut for Connection<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.tagged
    }
}

impl<T> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("tag", self.tagged.tag()).finish_non_exhaustive()
    }
}

/// bb8 asks for the age a moment after it has shown us the connection.
const MARGIN: Duration = Duration::from_millis(100);
