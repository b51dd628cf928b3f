//! The pool: a semaphore and a list. Nothing here knows of rotation, but that each connection has a [`Tag`].

use std::{
    collections::VecDeque,
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, ExposeSecret, Generation, Party, Result,
    in_place::{Freshness, InForce, Tag},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_postgres::{Client, Config, NoTls};

/// A pool of PostgreSQL connections. A clone is the same pool.
#[derive(Clone)]
pub struct Pool(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    config: Config,
    places: Arc<Semaphore>,
    idle: Mutex<VecDeque<Connection>>,
    pub(crate) in_force: Arc<InForce>,
    current: Current<Credentials>,
}

/// An open connection, and which credentials opened it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) tag: Arc<Tag>,
}

/// A connection that was checked out. Dropping it gives it back.
pub struct Borrowed {
    connection: Option<Connection>,
    pool: Arc<Inner>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(
        config: Config,
        size: usize,
        in_force: Arc<InForce>,
        current: Current<Credentials>,
    ) -> Self {
        let (places, idle) = (Arc::new(Semaphore::new(size)), Mutex::default());
        Self(Arc::new(Inner { config, places, idle, in_force, current }))
    }

    /// Checks a connection out, and opens one if none is idle.
    ///
    /// # Errors
    /// Whatever kept it from being opened; [`Closed`](ErrorKind::Closed) once the pool is closed.
    pub async fn get(&self) -> Result<Borrowed> {
        let place = Arc::clone(&self.0.places).acquire_owned().await.map_err(|_| closed())?;
        let connection = match self.0.take(|tag| tag.freshness() != Freshness::Ended) {
            Some(connection) => connection,
            None => self.0.open_in_force().await?,
        };
        Ok(Borrowed { connection: Some(connection), pool: Arc::clone(&self.0), _place: place })
    }

    /// Checks an idle connection out of which `wanted` says yes, if there is one and a place is free in a moment.
    pub(crate) async fn lend(&self, wanted: impl Fn(&Tag) -> bool) -> Option<Borrowed> {
        let place = self.0.place().await?;
        let connection = self.0.take(wanted)?;
        Some(Borrowed { connection: Some(connection), pool: Arc::clone(&self.0), _place: place })
    }

    /// Closes the pool: idle connections now, borrowed ones when they come back.
    pub fn close(&self) {
        self.0.places.close();
        self.0.list().clear();
    }
}

impl Inner {
    /// A refused handshake is how a revocation shows first.
    async fn open_in_force(&self) -> Result<Connection> {
        let issued = self.in_force.get()?;
        let generation = issued.generation();
        self.open(self.in_force.tag(issued)).await.inspect_err(|error| {
            if error.kind() == ErrorKind::CredentialsRefused {
                self.current.reject(generation, error.kind());
            }
        })
    }

    /// Opens a connection with the tag's credentials.
    pub(crate) async fn open(&self, tag: Tag) -> Result<Connection> {
        let (tag, mut config) = (Arc::new(tag), self.config.clone());
        let credentials = tag.issued().secret();
        config.user(credentials.username()).password(credentials.password().expose_secret());
        let opened = timeout(LONGEST_HANDSHAKE, config.connect(NoTls)).await.map_err(|_| {
            Error::new(ErrorKind::DatabaseUnavailable, Party::Database, "the handshake took too long")
        })?;
        let (client, connection) = opened.map_err(|error| {
            let kind = error
                .as_db_error()
                .map(|refusal| ErrorKind::of_sqlstate(refusal.code().code(), refusal.message()));
            Error::new(kind.unwrap_or(ErrorKind::DatabaseUnavailable), Party::Database, error.to_string())
        })?;
        // The task ends when the connection does, and only then does the tag count one less.
        let counted = Arc::clone(&tag);
        tokio::spawn(async move {
            let _ = connection.await;
            drop(counted);
        });
        Ok(Connection { client, tag })
    }

    /// Takes the first idle connection of which `wanted` says yes, and drops those that were closed.
    pub(crate) fn take(&self, wanted: impl Fn(&Tag) -> bool) -> Option<Connection> {
        let mut idle = self.list();
        idle.retain(|connection| {
            !connection.client.is_closed() && connection.tag.freshness() != Freshness::Ended
        });
        let index = idle.iter().position(|connection| wanted(&connection.tag))?;
        idle.remove(index)
    }

    pub(crate) fn put(&self, connection: Connection) {
        let mut idle = self.list();
        if !self.is_closed() {
            idle.push_back(connection);
        }
    }

    /// One of the pool's places, in turn with its callers: who exchanges a connection needs it as much as they do.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned();
        timeout(A_TURN, place).await.ok()?.ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Borrowed {
    pub(crate) fn generation(&self) -> Option<Generation> {
        self.connection.as_ref().map(|connection| connection.tag.generation())
    }

    /// Closes the connection that was there.
    pub(crate) fn put_in(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    pub(crate) fn close(&mut self) {
        self.connection = None;
    }
}

impl Deref for Borrowed {
    type Target = Client;

    fn deref(&self) -> &Client {
        match &self.connection {
            Some(connection) => &connection.client,
            None => unreachable!("it is taken when it is dropped"),
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("in_force", &self.0.in_force).finish_non_exhaustive()
    }
}

impl fmt::Debug for Borrowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borrowed").finish_non_exhaustive()
    }
}

const LONGEST_HANDSHAKE: Duration = Duration::from_secs(5);
const A_TURN: Duration = Duration::from_millis(100);

fn closed() -> Error {
    Error::new(ErrorKind::Closed, Party::Configuration, "the pool is closed")
}
