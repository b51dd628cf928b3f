//! The writer half of [`Current`]: what a keeper needs, and nobody else.

mod mail;
mod slot;

use std::{fmt, sync::Arc, time::Duration};

pub use crate::current::Rejection;
use crate::{
    Current, Error, EventKind, Generation, Grant, Issued, Record, Token,
    clock::{Clock, Moment},
    current::Shared,
};
pub use mail::Mail;
pub(crate) use mail::{Post, mail};
pub(crate) use slot::{Reader, Slot};

/// Everything a keeper of one secret holds.
pub struct Channel<S> {
    /// Publishes values and extends them.
    pub publisher: Publisher<S>,
    /// The records whose last user has gone.
    pub farewells: Mail<Arc<Record<S>>>,
    /// What users report as refused. Bounded: a storm is dropped.
    pub rejections: Mail<Rejection>,
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
    let (slot, reader) = slot::slot();
    let (farewell, farewells) = mail(usize::MAX);
    let (reject, rejections) = mail(REJECTIONS_KEPT);
    let shared = Arc::new(Shared::new(name.into(), clock));
    let current = Current::new(reader, reject, Arc::clone(&shared));
    let publisher = Publisher { slot, farewell, shared, issued: 0 };
    Channel { publisher, farewells, rejections, current }
}

/// Publishes the values of one secret. It holds no `Issued` but the one in the slot: a keeper must not be a user of
/// its own secret.
pub struct Publisher<S> {
    slot: slot::Writer<S>,
    farewell: Post<Arc<Record<S>>>,
    shared: Arc<Shared>,
    issued: u64,
}

/// What became of a grant.
#[derive(Debug)]
pub enum Published<S> {
    /// It is a new generation.
    New(Arc<Record<S>>),
    /// It was the current value again: of the same version, which now ends when the grant does; or the very lease or token
    /// that is in force, as a cache between us and the server answers. That ends no later than before, since such an answer
    /// may be old.
    Same(Arc<Record<S>>),
}

impl<S> Publisher<S> {
    /// Puts a grant, asked for at `sent`, in the slot; the value before it is superseded.
    pub fn publish(&mut self, grant: Grant<S>, sent: Moment) -> Published<S> {
        let until = grant.lease.ttl().map_or(Moment::NEVER, |ttl| sent + ttl);
        let before = self.record();
        if let Some(same) = before.as_ref().filter(|before| is_same_version(before, &grant)) {
            same.extend(until);
            same.presume_dead(Moment::NEVER);
            return Published::Same(Arc::clone(same));
        }
        if let Some(same) = before.as_ref().filter(|before| before.lease().is_same_issue(&grant.lease)) {
            same.extend(same.own_end().min(until));
            return Published::Same(Arc::clone(same));
        }
        self.issued += 1;
        let record = Arc::new(Record::new(grant, Generation(self.issued), until));
        let issued = Issued::new(Arc::clone(&record), self.farewell.clone());
        self.slot.put(Slot::Value(Arc::new(issued)));
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

    /// Whether [`publish`](Self::publish) would take a grant for this value again, if it is the current one. It may have
    /// left the slot, and still be in use.
    pub fn would_be_same(before: &Record<S>, grant: &Grant<S>) -> bool {
        is_same_version(before, grant)
    }

    /// Whether a grant is this very lease or token, which is in force, as a cache between us and the server answers: that is
    /// no successor.
    pub fn is_in_force(before: &Record<S>, grant: &Grant<S>) -> bool {
        before.lease().is_same_issue(&grant.lease) && !is_same_version(before, grant)
    }

    /// Makes a record of a grant, asked for at `sent`, that nobody is to use: what came after the end of its keeper, and is
    /// only to be revoked.
    pub fn set_aside(&mut self, grant: Grant<S>, sent: Moment) -> Arc<Record<S>> {
        let until = grant.lease.ttl().map_or(Moment::NEVER, |ttl| sent + ttl);
        self.issued += 1;
        Arc::new(Record::new(grant, Generation(self.issued), until))
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

    /// Whether revoking a record would end what is in force, which is another issue of the same lease, token or user: a cache
    /// may answer with a lease of before, and a role whose `username_template` is too simple names each of its users alike.
    /// Such a record is to be left to its end. Not so after [`close`](Self::close), when nothing is in force.
    pub fn would_end_what_is_in_force(&self, record: &Record<S>) -> bool {
        self.record().is_some_and(|current| {
            current.generation() != record.generation() && current.lease().ends_with(record.lease())
        })
    }

    /// The facts of the value in the slot, without using it.
    pub fn record(&self) -> Option<Arc<Record<S>>> {
        match &*self.slot.look() {
            Slot::Value(issued) => Some(issued.record()),
            Slot::Waiting | Slot::Closed => None,
        }
    }

    /// Empties the slot for good, so that the current value's last user can go too.
    pub fn close(&self) {
        self.slot.put(Slot::Closed);
    }

    /// Waits until no handle is left that could read the value.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn unread(&self) {
        self.slot.unread().await;
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

    /// Says when the next renewal or issue is planned, or when the one that is in flight left. Readiness takes a successor
    /// for overdue a second later.
    pub fn planned(&self, due: Moment) {
        self.shared.planned(due);
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
fn is_same_version<S>(before: &Record<S>, grant: &Grant<S>) -> bool {
    let token = |parent: Option<&Arc<Issued<Token>>>| parent.map(|token| token.generation());
    grant.version.is_some()
        && before.version() == grant.version.as_deref()
        && token(before.parent()) == token(grant.parent.as_ref())
}

const REJECTIONS_KEPT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lease, clock::TestClock};

    const TTL: Duration = Duration::from_secs(60);

    fn lease(id: &str) -> Lease {
        Lease::new(id, TTL, true).naming(id)
    }

    /// A caching proxy answers a request that looks like one before with the lease it has (vault #19684).
    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_in_force_is_no_successor_and_lasts_no_longer() {
        let clock = Arc::new(TestClock::new());
        let Channel { mut publisher, current, mut farewells, .. } = channel::<&str>("test", clock.clone());
        publisher.publish(Grant::new("one", lease("a/1")), clock.now());
        let (begin, used) = (clock.now(), current.get().unwrap());
        clock.suspend(Duration::from_secs(50));
        let Published::Same(record) = publisher.publish(Grant::new("one", lease("a/1")), clock.now()) else {
            panic!("the lease in force was taken for a successor")
        };
        assert_eq!((record.generation().number(), record.usable_until()), (1, begin + TTL));
        assert!(!record.is_superseded());
        drop(used);
        assert!(farewells.try_recv().is_none(), "nobody has let go of what is in force");
        let cut = Grant::new("one", Lease::new("a/1", Duration::from_secs(5), true).naming("a/1"));
        assert!(matches!(publisher.publish(cut, clock.now()), Published::Same(_)));
        assert_eq!(record.usable_until(), clock.now() + Duration::from_secs(5), "what is sooner is believed");
        publisher.presume_dead(&record);
        publisher.publish(Grant::new("one", lease("a/1")), clock.now());
        assert_eq!(record.usable_until(), clock.now(), "nor is it a proof of life");
        assert!(matches!(publisher.publish(Grant::new("two", lease("a/2")), clock.now()), Published::New(_)));
        for _ in 0..2 {
            let unnamed = Grant::new("two", Lease::new("a/2", TTL, true));
            assert!(
                matches!(publisher.publish(unnamed, clock.now()), Published::New(_)),
                "nothing was said of it"
            );
            let endless = Grant::new("three", Lease::endless());
            assert!(
                matches!(publisher.publish(endless, clock.now()), Published::New(_)),
                "two without a lease"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_in_force_is_no_successor() {
        let clock = Arc::new(TestClock::new());
        let mut publisher = channel::<&str>("test", clock.clone()).publisher;
        let token = |name| Grant::new("token", Lease::new("", TTL, true).naming(name));
        let Published::New(first) = publisher.publish(token("acc-1"), clock.now()) else { unreachable!() };
        assert!(matches!(publisher.publish(token("acc-1"), clock.now()), Published::Same(_)));
        assert!(matches!(publisher.publish(token("acc-2"), clock.now()), Published::New(_)));
        assert!(!publisher.would_end_what_is_in_force(&first));
        for generation in [3, 4] {
            let Published::New(record) = publisher.publish(token(""), clock.now()) else { unreachable!() };
            assert_eq!(record.generation().number(), generation, "nothing tells these apart");
        }
    }

    /// `username_template = "v-{{.RoleName}}"`: two leases, one user (vault #10461).
    #[tokio::test(start_paused = true)]
    async fn a_lease_whose_user_is_in_force_again_is_told() {
        let clock = Arc::new(TestClock::new());
        let mut publisher = channel::<&str>("test", clock.clone()).publisher;
        let mut publish = |id, user| {
            let Published::New(record) =
                publisher.publish(Grant::new("", lease(id).naming(user)), clock.now())
            else {
                panic!("another password is another generation")
            };
            record
        };
        let records = [publish("a/1", "v-same"), publish("a/2", "v-other"), publish("a/3", "v-same")];
        // A cache gives a lease back that had a successor already.
        let again = publish("a/2", "v-other");
        let ends = |publisher: &Publisher<_>| {
            records.each_ref().map(|record| publisher.would_end_what_is_in_force(record))
        };
        assert!(!publisher.would_end_what_is_in_force(&again), "it is what is in force");
        assert_eq!(ends(&publisher), [false, true, false]);
        let same = Grant::new("", lease("a/4").naming("v-same"));
        publisher.publish(same, clock.now());
        assert_eq!(ends(&publisher), [true, false, true]);
        publisher.close();
        assert_eq!(ends(&publisher), [false; 3]);
    }
}
