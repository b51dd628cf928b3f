//! What rides along with a connection: which credentials opened it, in the one place that diesel's connections have
//! for something of somebody else's.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use diesel::connection::{Connection, Instrumentation, InstrumentationEvent};
use leasehold_core::{
    Credentials, Issued,
    clock::Moment,
    in_place::{Freshness, Tag},
};

/// Instruments a connection of one of our pools, as [`Connection::set_instrumentation`] does.
///
/// The pool keeps which credentials opened a connection in its instrumentation, and passes all events on to yours. If you
/// call `set_instrumentation` itself, the pool does not know the connection any more, and closes it when it comes back.
///
/// ```no_run
/// # use diesel::{pg::PgConnection, connection::InstrumentationEvent};
/// # fn example(pool: leasehold_diesel::Pool<PgConnection>) -> Result<(), Box<dyn std::error::Error>> {
/// let mut connection = pool.get()?;
/// leasehold_diesel::set_instrumentation(&mut connection, |event: InstrumentationEvent<'_>| {
///     if let InstrumentationEvent::StartQuery { query, .. } = event {
///         println!("{query}");
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub fn set_instrumentation<C: Connection>(connection: &mut C, instrumentation: impl Instrumentation) {
    match connection.instrumentation().downcast_mut::<Rider>() {
        Some(rider) => rider.chained = Some(Box::new(instrumentation)),
        None => connection.set_instrumentation(instrumentation),
    }
}

/// The credentials that opened a connection of one of our pools. Holding them keeps them from being revoked.
pub fn issued<C: Connection>(connection: &mut C) -> Option<Arc<Issued<Credentials>>> {
    aboard(connection).map(|aboard| Arc::clone(aboard.tag.issued()))
}

/// What the connection and the pool's list share.
pub(crate) struct Aboard {
    tag: Tag,
    idle: AtomicBool,
    condemned: AtomicBool,
    used: AtomicU64,
}

impl Aboard {
    pub(crate) fn tag(&self) -> &Tag {
        &self.tag
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.tag.freshness()
    }

    /// Notes whether it is in the pool or in somebody's hands.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }

    /// Has the pool close it when it comes back.
    pub(crate) fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.load(Ordering::Relaxed)
    }

    /// When a caller gave it back last.
    pub(crate) fn used(&self) -> Moment {
        Moment::from_nanos(self.used.load(Ordering::Relaxed))
    }

    pub(crate) fn set_used(&self, at: Moment) {
        self.used.store(at.as_nanos(), Ordering::Relaxed);
    }
}

/// The instrumentation of our connections.
pub(crate) struct Rider {
    aboard: Arc<Aboard>,
    chained: Option<Box<dyn Instrumentation>>,
}

impl Instrumentation for Rider {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        // With `test_on_check_out(false)` nothing else tells that somebody has the connection, and the rotation would
        // take every idle one out to get at it.
        self.aboard.set_idle(false);
        if let Some(chained) = &mut self.chained {
            chained.on_connection_event(event);
        }
    }
}

/// What rides along with the connection, unless somebody has replaced it.
pub(crate) fn aboard<C: Connection>(connection: &mut C) -> Option<Arc<Aboard>> {
    connection.instrumentation().downcast_ref::<Rider>().map(|rider| Arc::clone(&rider.aboard))
}

/// Every connection that is open, whether the pool has it or somebody else: r2d2 shows none without handing it out.
#[derive(Default)]
pub(crate) struct Riders(Mutex<Vec<Weak<Aboard>>>);

impl Riders {
    /// Puts the tag of a connection that was just opened aboard.
    pub(crate) fn board<C: Connection>(
        &self,
        connection: &mut C,
        tag: Tag,
        now: Moment,
        chained: Option<Box<dyn Instrumentation>>,
    ) {
        let aboard = Arc::new(Aboard {
            tag,
            idle: AtomicBool::new(true),
            condemned: AtomicBool::new(false),
            used: AtomicU64::new(now.as_nanos()),
        });
        let mut riders = self.lock();
        riders.retain(|rider| rider.strong_count() > 0);
        riders.push(Arc::downgrade(&aboard));
        drop(riders);
        connection.set_instrumentation(Rider { aboard, chained });
    }

    /// Whether some connection is wanted.
    pub(crate) fn any(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> bool {
        self.open().iter().any(|rider| wanted(&rider.tag))
    }

    /// Whether some connection is wanted that is in the pool.
    pub(crate) fn any_idle(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> bool {
        self.open().iter().any(|rider| rider.idle.load(Ordering::Relaxed) && wanted(&rider.tag))
    }

    fn open(&self) -> Vec<Arc<Aboard>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Aboard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Riders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Riders").finish_non_exhaustive()
    }
}
