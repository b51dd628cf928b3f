//! One issue of a secret: its facts, shared by those who use it and the keeper that keeps it alive.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{Grant, Lease, Token, clock::Moment, publish::Post};

/// Which issue of a secret this is: 1 for the first one of its keeper. A connection has the generation it was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(crate) u64);

impl Generation {
    /// Makes a generation from its number, for tests and for stores outside this process.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, counted from 1.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The facts of one issue. The deadline moves, and only the keeper moves it; everything else stays.
pub struct Record<S> {
    secret: S,
    generation: Generation,
    lease: Lease,
    parent: Option<Arc<Issued<Token>>>,
    version: Option<String>,
    until: AtomicU64,
    presumed_dead_at: AtomicU64,
    superseded: AtomicBool,
    on_superseded: Notify,
}

impl<S> Record<S> {
    pub(crate) fn new(grant: Grant<S>, generation: Generation, until: Moment) -> Self {
        let Grant { secret, lease, parent, version } = grant;
        Self {
            secret,
            generation,
            lease,
            parent,
            version,
            until: AtomicU64::new(until.as_nanos()),
            presumed_dead_at: AtomicU64::new(Moment::NEVER.as_nanos()),
            superseded: AtomicBool::new(false),
            on_superseded: Notify::new(),
        }
    }

    /// The secret itself.
    pub fn secret(&self) -> &S {
        &self.secret
    }

    /// Which issue this is.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The terms it was issued on. They do not change with renewals; [`usable_until`](Self::usable_until) does.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The token it was issued under.
    pub fn parent(&self) -> Option<&Arc<Issued<Token>>> {
        self.parent.as_ref()
    }

    /// The provider's name for this value of the secret, where it has one.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// When it stops being usable, as known now: the end of its own lease or of the token it was issued under,
    /// whichever comes first. A server does not cap the first to the second, and ends both.
    pub fn usable_until(&self) -> Moment {
        let presumed = Moment::from_nanos(self.presumed_dead_at.load(Ordering::Acquire));
        let own = self.own_end().min(presumed);
        self.parent.as_ref().map_or(own, |parent| own.min(parent.usable_until()))
    }

    /// When the server lets it end, whether or not it is presumed dead: until then there may be something to revoke.
    pub fn granted_until(&self) -> Moment {
        let own = self.own_end();
        self.parent.as_ref().map_or(own, |parent| own.min(parent.granted_until()))
    }

    /// When its own lease ends, whatever becomes of its token.
    pub fn own_end(&self) -> Moment {
        Moment::from_nanos(self.until.load(Ordering::Acquire))
    }

    /// Whether it has a successor.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Waits until it has a successor.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn superseded(&self) {
        // Made before the look: a `Notified` hears of what happens after it was made.
        let told = self.on_superseded.notified();
        if !self.is_superseded() {
            told.await;
        }
    }

    pub(crate) fn extend(&self, until: Moment) {
        self.until.store(until.as_nanos(), Ordering::Release);
    }

    pub(crate) fn presume_dead(&self, at: Moment) {
        self.presumed_dead_at.store(at.as_nanos(), Ordering::Release);
    }

    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
        self.on_superseded.notify_waiters();
    }
}

impl<S> fmt::Debug for Record<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .field("lease", &self.lease)
            .field("version", &self.version)
            .field("usable_until", &self.usable_until())
            .field("superseded", &self.is_superseded())
            .finish_non_exhaustive()
    }
}

/// A [`Record`] in use. Whoever uses the secret holds the `Arc` of this: when the last one goes, the keeper is told and
/// revokes the lease. Dropping does no I/O and is fine from any thread.
///
/// The record holds the token's `Arc<Issued<Token>>`, so a token outlives every lease issued under it.
pub struct Issued<S> {
    record: Arc<Record<S>>,
    farewell: Post<Arc<Record<S>>>,
}

impl<S> Issued<S> {
    pub(crate) fn new(record: Arc<Record<S>>, farewell: Post<Arc<Record<S>>>) -> Self {
        Self { record, farewell }
    }

    pub(crate) fn record(&self) -> Arc<Record<S>> {
        Arc::clone(&self.record)
    }
}

impl<S> Deref for Issued<S> {
    type Target = Record<S>;

    fn deref(&self) -> &Record<S> {
        &self.record
    }
}

impl<S> Drop for Issued<S> {
    fn drop(&mut self) {
        self.farewell.send(Arc::clone(&self.record));
    }
}

impl<S> fmt::Debug for Issued<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Issued").field(&self.record).finish()
    }
}
