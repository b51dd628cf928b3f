//! What opens a pool's connections, and what opened those that are open.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    Credentials, Current, Error, ErrorKind, Generation, Issued, Party, Result,
    clock::{Clock, Moment, sleep_until},
};

/// The credentials that a pool opens its connections with: those adopted last, which are not always the latest issued.
/// It counts the open connections of each generation.
pub struct InForce {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Whether a connection is open that something else than what is in force has opened, or nothing is in force any more:
    /// a check-out asks this first.
    mixed: AtomicBool,
    switched: Notify,
    emptied: Notify,
}

struct State {
    issued: Option<Arc<Issued<Credentials>>>,
    /// Since when.
    since: Moment,
    /// How long those before were.
    last_reign: Duration,
    open: Vec<(Generation, usize)>,
}

/// Rides along with a connection, from before its handshake until it is closed: which credentials open it. It holds
/// them, so their lease is revoked only when the last connection has gone.
pub struct Tag {
    issued: Arc<Issued<Credentials>>,
    in_force: Arc<InForce>,
}

/// How often, and since when, the handshakes for one connection were refused.
#[derive(Debug, Default)]
pub struct Tries {
    give_up: Option<Moment>,
    waits: u32,
}

/// Whether a connection may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Yes: its user is the one in force.
    Fresh,
    /// Yes, but its credentials have a successor: it is exchanged when it is idle.
    Stale,
    /// No: its credentials have a successor, and are about to end.
    Ended,
}

impl InForce {
    /// Starts with credentials that are not proved yet.
    pub fn new(first: Arc<Issued<Credentials>>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let state =
            State { issued: Some(first), since: clock.now(), last_reign: Duration::ZERO, open: Vec::new() };
        Arc::new(Self {
            clock,
            state: Mutex::new(state),
            mixed: AtomicBool::new(false),
            switched: Notify::new(),
            emptied: Notify::new(),
        })
    }

    /// The credentials for a new connection.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) once the pool's rotation has ended.
    pub fn get(&self) -> Result<Arc<Issued<Credentials>>> {
        let ended = || Error::new(ErrorKind::Closed, Party::Configuration, "the pool's rotation has ended");
        self.state().issued.clone().ok_or_else(ended)
    }

    /// A tag for a connection to be opened with `issued`. Make it before the handshake: one that is under way counts.
    pub fn tag(self: &Arc<Self>, issued: Arc<Issued<Credentials>>) -> Tag {
        let generation = issued.generation();
        let mut state = self.state();
        match state.open.iter_mut().find(|entry| entry.0 == generation) {
            Some(entry) => entry.1 += 1,
            None => state.open.push((generation, 1)),
        }
        self.note_whether_mixed(&state);
        drop(state);
        Tag { issued, in_force: Arc::clone(self) }
    }

    /// Whether the pool is open, and every connection was opened with what is in force, so that none has to be looked at.
    /// One load.
    pub fn is_uniform(&self) -> bool {
        !self.mixed.load(Ordering::Acquire)
    }

    fn note_whether_mixed(&self, state: &State) {
        let in_force = state.issued.as_ref().map(|issued| issued.generation());
        let mixed =
            in_force.is_none() || state.open.iter().any(|(generation, _)| Some(*generation) != in_force);
        self.mixed.store(mixed, Ordering::Release);
    }

    /// How many connections are open, or being opened, with what this generation brought.
    pub fn count(&self, generation: Generation) -> usize {
        self.state().open.iter().find(|entry| entry.0 == generation).map_or(0, |entry| entry.1)
    }

    /// Open connections by generation.
    pub fn census(&self) -> Vec<(Generation, usize)> {
        self.state().open.clone()
    }

    /// Puts proved credentials in force. Nothing happens once it is [closed](Self::close): a pool may be closed while its
    /// rotation proves a successor.
    pub fn switch(&self, next: &Arc<Issued<Credentials>>) {
        let now = self.clock.now();
        let mut state = self.state();
        if state.issued.is_none() {
            return;
        }
        let before = state.issued.replace(Arc::clone(next));
        state.last_reign = std::mem::replace(&mut state.since, now).until(now);
        self.note_whether_mixed(&state);
        drop(state);
        // Its `Drop` sends; nothing that somebody else wrote runs under our lock.
        drop(before);
        self.switched.notify_waiters();
    }

    /// How long the credentials before those in force were in force.
    pub(super) fn last_reign(&self) -> Duration {
        self.state().last_reign
    }

    /// Lets go of everything: the pool is closed. Its rotation ends.
    pub fn close(&self) {
        let mut state = self.state();
        let before = state.issued.take();
        self.note_whether_mixed(&state);
        drop(state);
        drop(before);
        self.switched.notify_waiters();
    }

    /// Waits until other credentials than those of this generation are in force, or none.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn succeeded(&self, generation: Generation) {
        loop {
            let switched = self.switched.notified();
            if self.get().map_or(true, |issued| issued.generation() != generation) {
                return;
            }
            switched.await;
        }
    }

    /// For a connector whose credentials were refused: tells the keeper, and waits until it is worth its while to try
    /// again, with whatever is in force then. That is when they have a successor, or after a while that doubles from half
    /// a second: the server hands the password of a static role out a moment after the database has taken it, and a
    /// replica may not have heard of a new user. Returns `false` once that has gone on for five seconds.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn try_again(
        &self,
        refused: Generation,
        current: &Current<Credentials>,
        tries: &mut Tries,
    ) -> bool {
        current.reject(refused, ErrorKind::CredentialsRefused);
        let now = self.clock.now();
        let give_up = *tries.give_up.get_or_insert(now + WAIT_FOR_SUCCESSOR);
        if give_up <= now {
            return false;
        }
        let wait = FIRST_WAIT * (1 << tries.waits.min(4));
        tries.waits += 1;
        tokio::select! {
            biased;
            () = self.succeeded(refused) => {}
            () = sleep_until(&*self.clock, give_up.min(now + wait)) => {}
        }
        true
    }

    /// Waits until the pool is [closed](Self::close).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn closed(&self) {
        loop {
            let switched = self.switched.notified();
            if self.get().is_err() {
                return;
            }
            switched.await;
        }
    }

    /// Waits until no connection is open, nor being opened.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.state().open.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Waits until the last open connection has gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped, but what happened before the call is not heard.
    pub async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// The clock on which deadlines are.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can leave it half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tag {
    /// The credentials that open the connection.
    pub fn issued(&self) -> &Arc<Issued<Credentials>> {
        &self.issued
    }

    /// Their generation.
    pub fn generation(&self) -> Generation {
        self.issued.generation()
    }

    /// Whether the connection may be handed out.
    pub fn freshness(&self) -> Freshness {
        if self.in_force.is_uniform() {
            return Freshness::Fresh;
        }
        let state = self.in_force.state();
        // A static role keeps its username, and its sessions outlive a change of their password.
        let same_user = state.issued.as_ref().is_none_or(|in_force| {
            in_force.generation() == self.generation()
                || in_force.secret().username() == self.issued.secret().username()
        });
        drop(state);
        if same_user {
            Freshness::Fresh
        } else if self.in_force.clock.now() < hard_phase(&self.issued) {
            Freshness::Stale
        } else {
            Freshness::Ended
        }
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        let generation = self.issued.generation();
        let mut state = self.in_force.state();
        if let Some(entry) = state.open.iter_mut().find(|entry| entry.0 == generation) {
            entry.1 -= 1;
        }
        state.open.retain(|entry| entry.1 > 0);
        self.in_force.note_whether_mixed(&state);
        if state.open.is_empty() {
            self.in_force.emptied.notify_waiters();
        }
    }
}

/// From when on connections of superseded credentials are refused to everybody: a statement that begins when one is
/// handed out should have a chance to end in time.
pub fn hard_phase(old: &Issued<Credentials>) -> Moment {
    old.usable_until().earlier(LEAD)
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.get().ok().map(|issued| issued.generation());
        f.debug_struct("InForce").field("generation", &generation).field("open", &self.census()).finish()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tag").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

/// A login, an issue and a proof take less.
const WAIT_FOR_SUCCESSOR: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LEAD: Duration = Duration::from_secs(1);
