//! The writer half of [`Current`]: what a keeper needs, and nobody else.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

pub use crate::current::Rejection;
use crate::{
    Current, Error, EventKind, Generation, Grant, Issued, Record, Token,
    clock::{Clock, Moment},
    current::{Shared, Slot},
};

/// Everything a keeper of one secret holds.
pub struct Channel<S> {
    /// Publishes values and extends them.
    pub publisher: Publisher<S>,
    /// The records whose last user has gone.
    pub farewells: mpsc::UnboundedReceiver<Arc<Record<S>>>,
    /// What users report as refused. Bounded: a storm is dropped.
    pub rejections: mpsc::Receiver<Rejection>,
    /// The first handle; clone it for more.
    pub current: Current<S>,
}

/// Opens the channel between one keeper and the users of its secret. `name` is the secret's name in logs and events.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// use leasehold_core::{Credentials, Grant, Lease, clock::{Clock, SystemClock}, publish};
///
/// let mut channel = publish::channel("database/creds/pipeline", Arc::new(SystemClock));
/// assert!(channel.current.get().is_err(), "not yet");
///
/// let lease = Lease::new("database/creds/pipeline/1", Duration::from_secs(60), true);
/// let grant = Grant::new(Credentials::new("name", "password".to_owned()), lease);
/// channel.publisher.publish(grant, SystemClock.now());
/// assert_eq!(channel.current.get()?.secret().username(), "name");
/// # Ok::<(), leasehold_core::Error>(())
/// ```
pub fn channel<S>(name: &str, clock: Arc<dyn Clock>) -> Channel<S> {
    let (slot, reader) = watch::channel(Slot::Waiting);
    let (farewell, farewells) = mpsc::unbounded_channel();
    let (reject, rejections) = mpsc::channel(REJECTIONS_KEPT);
    let shared = Arc::new(Shared::new(name.into(), clock));
    let current = Current::new(reader, reject, Arc::clone(&shared));
    let publisher = Publisher { slot, farewell, shared, issued: 0 };
    Channel { publisher, farewells, rejections, current }
}

/// Publishes the values of one secret. It holds no `Issued` but the one in the slot: a keeper must not be a user of
/// its own secret.
pub struct Publisher<S> {
    slot: watch::Sender<Slot<S>>,
    farewell: mpsc::UnboundedSender<Arc<Record<S>>>,
    shared: Arc<Shared>,
    issued: u64,
}

/// What became of a grant.
#[derive(Debug)]
pub enum Published<S> {
    /// It is a new generation.
    New(Arc<Record<S>>),
    /// It was the current value again, which now ends when the grant does.
    Same(Arc<Record<S>>),
}

impl<S> Publisher<S> {
    /// Puts a grant, asked for at `sent`, in the slot; the value before it is superseded.
    pub fn publish(&mut self, grant: Grant<S>, sent: Moment) -> Published<S> {
        let until = grant.lease.ttl().map_or(Moment::NEVER, |ttl| sent + ttl);
        let before = self.record();
        if let Some(same) = before.as_ref().filter(|before| is_same(before, &grant)) {
            same.extend(until);
            same.presume_dead(Moment::NEVER);
            return Published::Same(Arc::clone(same));
        }
        self.issued += 1;
        let record = Arc::new(Record::new(grant, Generation(self.issued), until));
        let issued = Issued::new(Arc::clone(&record), self.farewell.clone());
        self.slot.send_replace(Slot::Value(Arc::new(issued)));
        let usable_for = match record.usable_until() {
            Moment::NEVER => None,
            until => Some(self.shared.clock.now().until(until)),
        };
        self.shared.emit(record.generation(), EventKind::Issued { usable_for });
        if let Some(before) = before {
            before.supersede();
            self.shared.emit(before.generation(), EventKind::Superseded);
        }
        Published::New(record)
    }

    /// Moves the end of a record's own lease.
    pub fn extend(&self, record: &Record<S>, until: Moment) {
        record.extend(until);
    }

    /// Makes a record end now for whoever asks until when it is usable. The server may know better, so it is still to be
    /// revoked.
    pub fn presume_dead(&self, record: &Record<S>) {
        record.presume_dead(self.shared.clock.now());
    }

    /// The facts of the value in the slot, without using it.
    pub fn record(&self) -> Option<Arc<Record<S>>> {
        match &*self.slot.borrow() {
            Slot::Value(issued) => Some(issued.record()),
            Slot::Waiting | Slot::Closed => None,
        }
    }

    /// Empties the slot for good, so that the current value's last user can go too.
    pub fn close(&self) {
        self.slot.send_replace(Slot::Closed);
    }

    /// Waits until no handle is left that could read the value.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn unread(&self) {
        self.slot.closed().await;
    }

    /// The name of the secret.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Tells everyone who listens.
    pub fn emit(&self, generation: Generation, kind: EventKind) {
        self.shared.emit(generation, kind);
    }

    /// Reports a failed request, and when the next attempt comes.
    pub fn failed(&self, generation: Generation, error: Error, retry_in: Duration) {
        if self.shared.keeper_trouble(Some(error.clone())) {
            self.shared.emit(generation, EventKind::Degraded);
        }
        self.shared.emit(generation, EventKind::Failed { error, retry_in });
    }

    /// Reports how late a step of the keeper's was: a runtime that is blocked shows here before anything ends.
    pub fn acted_late(&self, late: Duration) {
        #[cfg(feature = "metrics")]
        crate::metrics::late(&self.shared.name, late);
        #[cfg(not(feature = "metrics"))]
        let _ = late;
    }

    /// Reports a request that succeeded. Returns whether the ones before it had failed.
    pub fn succeeded(&self, generation: Generation) -> bool {
        let recovered = self.shared.keeper_trouble(None);
        if recovered {
            self.shared.emit(generation, EventKind::Recovered);
        }
        recovered
    }
}

impl<S> fmt::Debug for Publisher<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("secret", &self.shared.name)
            .field("issued", &self.issued)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}

/// The same version under another token ends at another time, and is another issue.
fn is_same<S>(before: &Record<S>, grant: &Grant<S>) -> bool {
    let token = |parent: Option<&Arc<Issued<Token>>>| parent.map(|token| token.generation());
    grant.version.is_some()
        && before.version() == grant.version.as_deref()
        && token(before.parent()) == token(grant.parent.as_ref())
}

const REJECTIONS_KEPT: usize = 8;
