//! What r2d2 opens and checks connections with.

use std::{
    cell::Cell,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use diesel::{
    ConnectionError,
    connection::{Instrumentation, get_default_instrumentation},
    r2d2::{self, ManageConnection},
};
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, ExposeSecret, Issued, Party, Result,
    in_place::{Freshness, InForce, Tag},
};

use crate::{
    address::{Address, configuration, without_secrets},
    customize::Customizer,
    database::Database,
    rider::{Riders, aboard},
};

/// The pool that [`Builder`](crate::Builder) builds: r2d2's own.
pub type Pool<C> = r2d2::Pool<Manager<C>>;

/// Opens the connections of a [`Pool`] with whatever credentials are in force. diesel's own
/// [`ConnectionManager`](r2d2::ConnectionManager) has a URL instead.
pub struct Manager<C>(pub(crate) Arc<Shared<C>>);

impl<C: Database> ManageConnection for Manager<C> {
    type Connection = C;
    type Error = r2d2::Error;

    fn connect(&self) -> Result<C, r2d2::Error> {
        let told = |error: Error| {
            r2d2::Error::ConnectionError(ConnectionError::BadConnection(error.message().to_owned()))
        };
        match self.0.take_first() {
            Some(first) => Ok(first),
            None => self.0.connect().map_err(told),
        }
    }

    fn is_valid(&self, connection: &mut C) -> Result<(), r2d2::Error> {
        let refused =
            |why: &str| Err(r2d2::Error::ConnectionError(ConnectionError::BadConnection(why.to_owned())));
        let Some(aboard) = aboard(connection) else {
            return refused(
                "somebody replaced its instrumentation; it is not known which credentials opened it",
            );
        };
        if !is_sweeping() {
            if aboard.freshness() == Freshness::Ended {
                return refused("its credentials have a successor, and end");
            }
            connection.ping().map_err(r2d2::Error::QueryError)?;
        }
        aboard.set_idle(false);
        Ok(())
    }

    fn has_broken(&self, connection: &mut C) -> bool {
        let Some(aboard) = aboard(connection) else { return true };
        let broken = aboard.is_condemned() || thread::panicking() || connection.is_broken();
        if !is_sweeping() {
            aboard.set_used(self.0.in_force.clock().now());
            if aboard.freshness() == Freshness::Ended {
                return true;
            }
        }
        aboard.set_idle(!broken);
        broken
    }
}

impl<C> fmt::Debug for Manager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("in_force", &self.0.in_force).finish_non_exhaustive()
    }
}

/// What the pool's manager and its rotation share.
pub(crate) struct Shared<C> {
    pub(crate) address: Address,
    pub(crate) in_force: Arc<InForce>,
    pub(crate) current: Current<Credentials>,
    pub(crate) riders: Riders,
    pub(crate) customizer: Customizer<C>,
    pub(crate) handshake: Duration,
    pub(crate) instrumentation: Option<Instruments>,
    /// What proved the credentials, for the pool to begin with.
    pub(crate) first: Mutex<Option<C>>,
}

/// Makes the instrumentation of one connection.
pub(crate) type Instruments = Box<dyn Fn() -> Box<dyn Instrumentation> + Send + Sync>;

impl<C: Database> Shared<C> {
    /// Opens a connection with what is in force. Credentials that were revoked are noticed here first: the keeper is told,
    /// and r2d2, which would try the same again and again, waits for their successor.
    fn connect(&self) -> Result<C> {
        let issued = self.in_force.get()?;
        let refused = match self.open(self.in_force.tag(Arc::clone(&issued))) {
            Err(error) if error.kind() == ErrorKind::CredentialsRefused => error,
            answer => return answer,
        };
        self.current.reject(issued.generation(), refused.kind());
        for _ in 0..LOOKS {
            thread::sleep(BETWEEN_LOOKS);
            let in_force = self.in_force.get()?;
            if in_force.generation() != issued.generation() {
                return self.open(self.in_force.tag(in_force));
            }
        }
        Err(refused)
    }

    /// Opens a connection with the tag's credentials.
    pub(crate) fn open(&self, tag: Tag) -> Result<C> {
        let url = self.address.with(tag.issued().secret(), self.handshake)?;
        let mut connection =
            C::establish(url.expose_secret()).map_err(|error| translate::<C>(tag.issued(), &error))?;
        let chained = match &self.instrumentation {
            Some(instruments) => Some(instruments()),
            None => get_default_instrumentation(),
        };
        self.riders.board(&mut connection, tag, self.in_force.clock().now(), chained);
        Ok(connection)
    }

    /// Opens one as the pool would, through the customizer.
    pub(crate) fn open_customized(&self, tag: Tag) -> Result<C> {
        let mut connection = self.open(tag)?;
        self.customizer
            .on_acquire(&mut connection)
            .map_err(|error| configuration(format!("the pool's customizer: {error}")))?;
        Ok(connection)
    }

    /// What proved the credentials, while they are in force.
    pub(crate) fn take_first(&self) -> Option<C> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        aboard(&mut first).is_some_and(|aboard| aboard.freshness() == Freshness::Fresh).then_some(first)
    }
}

fn translate<C: Database>(issued: &Issued<Credentials>, error: &ConnectionError) -> Error {
    let credentials = issued.secret();
    let (kind, said) = match error {
        ConnectionError::BadConnection(said) => (C::kind_of(said), said.as_str()),
        ConnectionError::InvalidConnectionUrl(said) => (ErrorKind::Configuration, said.as_str()),
        // What else there is may hold the URL.
        _ => (ErrorKind::Unexpected, "the client library refuses to connect"),
    };
    let user = credentials.username();
    let message = format!("as {user}: {}", without_secrets(said, credentials));
    Error::new(kind, Party::Database, message)
}

thread_local! {
    static SWEEPING: Cell<bool> = const { Cell::new(false) };
}

/// Does what the rotation does with the pool: checking out without a ping, and giving back without having used.
pub(crate) fn sweeping<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SWEEPING.set(self.0);
        }
    }
    let _restore = Restore(SWEEPING.replace(true));
    work()
}

fn is_sweeping() -> bool {
    SWEEPING.get()
}

/// As long as a login, an issue and a proof take, but in steps: r2d2's threads have no runtime to wait on.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
