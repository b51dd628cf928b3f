//! The handle that users of a secret hold.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;

use crate::{
    Error, ErrorKind, Event, EventKind, Generation, Health, Issued, Party, Result, Status,
    clock::{Clock, Moment},
    publish::{Post, Reader, Slot},
};

/// The cheap handle to the latest value of a secret.
///
/// It keeps the secret's keeper alive: a pool that holds one goes on rotating when every other variable is gone.
pub struct Current<S> {
    slot: Reader<S>,
    rejections: Post<Rejection>,
    shared: Arc<Shared>,
    reader: u64,
}

/// What [`Current::reject`] reports to the keeper.
#[derive(Clone, Copy, Debug)]
pub struct Rejection {
    /// The generation that is refused.
    pub generation: Generation,
    /// Why.
    pub cause: ErrorKind,
}

impl<S> Current<S> {
    pub(crate) fn new(mut slot: Reader<S>, rejections: Post<Rejection>, shared: Arc<Shared>) -> Self {
        drop(slot.look_anew());
        let reader = shared.next_reader();
        Self { slot, rejections, shared, reader }
    }

    /// The latest value. Cheap and synchronous: no I/O, no waiting. Hold the `Arc` for as long as the secret is in use.
    ///
    /// # Errors
    /// [`NotYet`](ErrorKind::NotYet) before the first value, and [`Closed`](ErrorKind::Closed) after the keeper's
    /// shut-down. A value that has ended is still handed out: without a successor it is the best there is.
    pub fn get(&self) -> Result<Arc<Issued<S>>> {
        // Cloned inside, so that nobody holds the lock of the channel across a blocking call.
        self.slot.look().value(&self.shared)
    }

    /// Waits for the first value, where the keeper was started without one.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after the keeper's shut-down.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn ready(&self) -> Result<Arc<Issued<S>>> {
        let mut waiting = self.clone();
        match self.get() {
            Err(error) if error.kind() == ErrorKind::NotYet => waiting.changed().await,
            other => other,
        }
    }

    /// Waits for a value newer than the one that was there when this handle was made or last waited, and returns it.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after the keeper's shut-down.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the next call returns at once.
    pub async fn changed(&mut self) -> Result<Arc<Issued<S>>> {
        loop {
            self.slot.changed().await.map_err(|_| closed(&self.shared.name))?;
            match self.slot.look_anew().value(&self.shared) {
                Err(error) if error.kind() == ErrorKind::NotYet => {}
                other => return other,
            }
        }
    }

    /// Tells the keeper that this generation is refused. It verifies and, if need be, issues another, at a bounded
    /// rate. Reports about superseded generations, and a storm of them, are dropped.
    pub fn reject(&self, generation: Generation, cause: ErrorKind) {
        self.rejections.send(Rejection { generation, cause });
    }

    /// Tells everyone who listens what only a pool knows: [`Adopted`](EventKind::Adopted),
    /// [`Retiring`](EventKind::Retiring), [`Retired`](EventKind::Retired), or [`Failed`](EventKind::Failed).
    pub fn report(&self, generation: Generation, kind: EventKind) {
        self.shared.record_pool_state(self.reader, &kind);
        self.shared.emit(generation, kind);
    }

    /// Says how to count the connections that this pool has open, by generation, for [`health`](Self::health). It is
    /// asked for as long as this handle lives, and must be quick.
    pub fn count_connections_with(
        &self,
        census: impl Fn() -> Vec<(Generation, usize)> + Send + Sync + 'static,
    ) {
        // Counts are asked for and not pushed by the pool, because a count that is pushed is old, or costs a timer.
        let before = self.shared.take_census(self.reader);
        self.shared.state().censuses.push((self.reader, Arc::new(census)));
        drop(before);
    }

    /// What happens to the secret from now on. A listener that is slow misses events and harms nobody.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.get_or_init(|| broadcast::channel(EVENTS_KEPT).0).subscribe()
    }

    /// The state at a glance.
    pub fn health(&self) -> Health {
        let now = self.shared.clock.now();
        let value = self.get().ok();
        let (mut status, overdue, censuses) = self.shared.look(now);
        // The sender goes with the keeper's task, whatever ended that.
        if status == Status::Healthy && self.slot.is_writer_gone() {
            status = Status::Degraded { since: Duration::ZERO, error: closed(&self.shared.name) };
        }
        let mut connections: Vec<(Generation, usize)> = Vec::new();
        // A pool that cannot count must not take the readiness probe down.
        let counted = |census: &Arc<Census>| catch_unwind(AssertUnwindSafe(|| census())).unwrap_or_default();
        for (generation, open) in censuses.iter().flat_map(counted).filter(|(_, open)| *open > 0) {
            match connections.iter_mut().find(|entry| entry.0 == generation) {
                Some(entry) => entry.1 += open,
                None => connections.push((generation, open)),
            }
        }
        connections.sort_unstable();
        Health {
            status,
            generation: value.as_ref().map(|value| value.generation()),
            overdue,
            issued_for: value.as_ref().and_then(|value| value.record().lease().ttl()),
            usable_for: match value.map_or(now, |value| value.usable_until()) {
                Moment::NEVER => None,
                until => Some(now.until(until)),
            },
            connections,
        }
    }

    /// Sets the gauges that change by themselves as time goes by: seconds to usable-until, and connections. Call it
    /// before a scrape, or every so often.
    #[cfg(feature = "metrics")]
    pub fn sample_metrics(&self) {
        crate::metrics::sample(&self.shared.name, &self.health());
    }

    /// The clock on which the secret's deadlines are.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The name of the secret, as its provider gives it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl<S> Clone for Current<S> {
    fn clone(&self) -> Self {
        Self::new(self.slot.clone(), self.rejections.clone(), Arc::clone(&self.shared))
    }
}

impl<S> Drop for Current<S> {
    fn drop(&mut self) {
        self.shared.state().pool_trouble.retain(|trouble| trouble.0 != self.reader);
        drop(self.shared.take_census(self.reader));
    }
}

impl<S> fmt::Debug for Current<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("secret", &self.shared.name).field("health", &self.health()).finish()
    }
}

impl<S> Slot<S> {
    fn value(&self, shared: &Shared) -> Result<Arc<Issued<S>>> {
        let name = &shared.name;
        match self {
            Self::Value(issued) => Ok(Arc::clone(issued)),
            Self::Waiting => {
                let why = shared.state().keeper_trouble.as_ref().map(|(_, error)| format!(": {error}"));
                let message = format!("{name} has not been issued yet{}", why.unwrap_or_default());
                Err(Error::new(ErrorKind::NotYet, Party::Vault, message))
            }
            Self::Closed => Err(closed(name)),
        }
    }
}

fn closed(name: &str) -> Error {
    Error::new(
        ErrorKind::Closed,
        Party::Configuration,
        format!("the keeper of {name} has ended: it was shut down, or its runtime was"),
    )
}

/// What every handle to one secret shares beside its value.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Made for the first listener: its ring is tens of kilobytes, and most keepers have none.
    events: OnceLock<broadcast::Sender<Event>>,
    readers: AtomicU64,
    /// When the keeper's next request is planned.
    due: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keeper_trouble: Option<(Moment, Error)>,
    /// By reader: one pool's success says nothing about another's.
    pool_trouble: Vec<(u64, Moment, Error)>,
    censuses: Vec<(u64, Arc<Census>)>,
}

/// Counts a pool's connections by generation.
type Census = dyn Fn() -> Vec<(Generation, usize)> + Send + Sync;

impl Shared {
    pub(crate) fn new(name: Arc<str>, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            clock,
            events: OnceLock::new(),
            readers: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
            state: Mutex::default(),
        }
    }

    pub(crate) fn emit(&self, generation: Generation, kind: EventKind) {
        let event = Event { secret: Arc::clone(&self.name), generation, kind };
        #[cfg(feature = "metrics")]
        crate::metrics::count(&event);
        if let Some(events) = self.events.get() {
            // Fails only when nobody listens any more.
            let _ = events.send(event);
        }
    }

    /// Remembers the keeper's trouble, or that it is over. Returns whether that is news.
    pub(crate) fn keeper_trouble(&self, trouble: Option<Error>) -> bool {
        let now = self.clock.now();
        set_trouble(&mut self.state().keeper_trouble, trouble, now)
    }

    /// Remembers when the keeper's next request is planned.
    pub(crate) fn planned(&self, due: Moment) {
        self.due.store(due.as_nanos(), Ordering::Relaxed);
    }

    /// Whether requests succeed, whether a successor is overdue, and how to count connections: counting is for the caller,
    /// who holds no lock.
    fn look(&self, now: Moment) -> (Status, bool, Vec<Arc<Census>>) {
        let due = Moment::from_nanos(self.due.load(Ordering::Relaxed));
        let state = self.state();
        let overdue = state.keeper_trouble.is_some() || due + IN_TIME < now;
        let of_keeper = state.keeper_trouble.as_ref().map(|(since, error)| (since, error));
        let of_pool = state.pool_trouble.first().map(|(_, since, error)| (since, error));
        let status = match of_keeper.or(of_pool) {
            Some((since, error)) => Status::Degraded { since: since.until(now), error: error.clone() },
            None => Status::Healthy,
        };
        (status, overdue, state.censuses.iter().map(|(_, census)| Arc::clone(census)).collect())
    }

    fn record_pool_state(&self, reader: u64, kind: &EventKind) {
        let now = self.clock.now();
        let mut state = self.state();
        match kind {
            EventKind::Failed { error, .. } => {
                match state.pool_trouble.iter_mut().find(|trouble| trouble.0 == reader) {
                    Some(trouble) => trouble.2 = error.clone(),
                    None => state.pool_trouble.push((reader, now, error.clone())),
                }
            }
            EventKind::Adopted => state.pool_trouble.retain(|trouble| trouble.0 != reader),
            _ => {}
        }
    }

    /// Takes it out for the caller to drop, who holds no lock: it may own anything, another handle to this secret too.
    fn take_census(&self, reader: u64) -> Vec<(u64, Arc<Census>)> {
        let mut state = self.state();
        state.censuses.extract_if(.., |(of, _)| *of == reader).collect()
    }

    fn next_reader(&self) -> u64 {
        self.readers.fetch_add(1, Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can leave it half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_trouble(slot: &mut Option<(Moment, Error)>, trouble: Option<Error>, now: Moment) -> bool {
    let news = slot.is_some() != trouble.is_some();
    let since = slot.as_ref().map_or(now, |(since, _)| *since);
    *slot = trouble.map(|error| (since, error));
    news
}

/// How long after its planned moment a request may be answered and is still in time.
const IN_TIME: Duration = Duration::from_secs(1);
/// A listener that falls this far behind misses the oldest.
const EVENTS_KEPT: usize = 256;
