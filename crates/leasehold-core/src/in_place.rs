//! The rotation of pools whose connections can be exchanged in place.
//!
//! Where an adapter opens the pool's connections itself (deadpool, bb8, r2d2), the new connection is opened *while the
//! old one lives*, and takes its place in the pool: no caller waits for a handshake, the pool is never smaller than it
//! was, and a failure loses nothing. The adapter implements [`Slots`], which is about its pool; [`InPlace`] is the rest.

mod connect;
mod in_force;
mod inner;
mod retirement;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tracing::{debug, warn};

pub use connect::{Connect, Tagged, end_session, terminate_all_of};
pub use in_force::{Freshness, InForce, Tag, Tries, hard_phase};

use crate::{
    Credentials, Current, Error, ErrorKind, Generation, Issued, Party, Result, Retired, Rotate,
    clock::{Clock, Moment, sleep_until, within},
    drive,
};
use inner::Inner;

/// What the rotation needs of a pool. Nothing here retries, and nothing waits for a caller of the pool.
///
/// # Cancel safety
/// When a newer generation arrives, or the rotation ends, [`open`](Self::open), [`find`](Self::find),
/// [`queue`](Self::queue), [`exchange_next`](Self::exchange_next), [`ask`](Self::ask), [`terminate`](Self::terminate) and
/// [`close`](Self::close) may be dropped; so may [`refill`](Self::refill) and [`fill`](Self::fill), but only when they take
/// too long. What takes a [`Slot`](Self::Slot) is always run to its end, in a task of its own, and must bound its own time:
/// only the end of the runtime can stop it.
#[async_trait]
pub trait Slots: Send + Sync + 'static {
    /// A connection outside the pool.
    type Connection: Send;
    /// One of the pool's places, with its connection, checked out. Dropping it gives it back.
    type Slot: Send;

    /// Opens a connection with the tag's credentials, which it keeps.
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused) only if the database refuses the credentials themselves, and
    /// [`DatabaseFull`](ErrorKind::DatabaseFull) if there is no room for another connection.
    async fn open(&self, tag: Tag) -> Result<Self::Connection>;

    /// Checks an idle connection out of which `wanted` says yes, if there is one: at once, opening none, and keeping none
    /// of the others for longer than it takes to look at them.
    async fn find(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Self::Slot>;

    /// Where every connection is borrowed and callers queue for the next one: queues with them, for a moment, and returns
    /// what comes if `wanted` says yes to it. Nothing at all if the pool could open a connection instead.
    async fn queue(&self, _wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Self::Slot> {
        None
    }

    /// Puts a connection in the place of another, gives the place back, and closes the other.
    async fn exchange(&self, slot: Self::Slot, connection: Self::Connection);

    /// Closes a connection and gives its place up.
    async fn give_up(&self, slot: Self::Slot);

    /// Closes a connection to make room on the server for one that is about to be opened, and keeps its place in the pool,
    /// if that is possible: in a place that is given up, a pool may open another before we do, and with old credentials.
    async fn make_room(&self, slot: Self::Slot) -> Option<Self::Slot> {
        self.give_up(slot).await;
        None
    }

    /// Has the pool open a connection by itself, in a place that was given up, if it would not do so anyway.
    async fn refill(&self) {}

    /// Puts a connection in a place that was given up, if there still is one. A pool that takes no connection from
    /// outside closes it and opens its own.
    async fn fill(&self, connection: Self::Connection) {
        self.close(connection).await;
        self.refill().await;
    }

    /// Whether all of the pool's places are borrowed, so that waiting callers take what comes back before
    /// [`find`](Self::find) sees it. Only where [`queue`](Self::queue) or [`exchange_next`](Self::exchange_next) can help.
    fn is_saturated(&self) -> bool {
        false
    }

    /// Puts `connection` in the place of the next one of a generation that comes back, and closes that one. If none does
    /// until then, hands `connection` back.
    async fn exchange_next(
        &self,
        _of: Generation,
        connection: Self::Connection,
        _until: Moment,
    ) -> Option<Self::Connection> {
        Some(connection)
    }

    /// Closes a connection that is not the pool's.
    async fn close(&self, connection: Self::Connection) {
        drop(connection);
    }

    /// Whether the pool is better off without this idle connection, which it has not needed for so long: a replacement
    /// looks just used, and a pool that rotates often would never shrink.
    fn is_surplus(&self, _slot: &Self::Slot, _reign: Duration) -> bool {
        false
    }

    /// Asks the database whether it still knows the user of this connection: `SELECT session_user`, say. A connection that
    /// does not answer in time is [given up](Self::give_up).
    ///
    /// # Errors
    /// [`CredentialsRefused`](ErrorKind::CredentialsRefused) if it does not.
    async fn ask(&self, _slot: &mut Self::Slot) -> Result<()> {
        Ok(())
    }

    /// Ends, on the server, the sessions of credentials that are about to end and whose connections are still borrowed.
    /// Returns how many.
    ///
    /// # Errors
    /// Whatever kept it from doing so.
    async fn terminate(&self, _old: &Arc<Issued<Credentials>>) -> Result<usize> {
        Ok(0)
    }

    /// Waits until the pool is closed, or nobody has it any more.
    async fn closed(&self);
}

/// What a rotation is told beside its pool.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The longest that a handshake may take.
    pub handshake: Duration,
    /// How often to ask the database whether it still knows the user in force; `None` not to.
    pub ask_every: Option<Duration>,
    /// Whether to [`terminate`](Slots::terminate) what is still borrowed when its credentials end.
    pub terminate: bool,
}

impl Default for Settings {
    /// Five seconds for a handshake, a question every two seconds, and nothing terminated.
    fn default() -> Self {
        Self { handshake: Duration::from_secs(5), ask_every: Some(Duration::from_secs(2)), terminate: false }
    }
}

/// Tells the keeper if the answer to a question says that the database does not know the user in force any more.
pub fn suspect(current: &Current<Credentials>, generation: Generation, error: &Error) {
    if error.kind() == ErrorKind::CredentialsRefused {
        warn!(secret = current.name(), %generation, %error, "the database does not know the user in force any more");
        current.reject(generation, error.kind());
    } else {
        debug!(secret = current.name(), %generation, %error, "the database does not answer");
    }
}

/// A database's answer, if it comes within so much time.
///
/// # Errors
/// What it answers; [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable) if it takes longer.
///
/// # Cancel safety
/// That of `request`, which is dropped when it takes longer.
pub async fn answered_within<T>(
    clock: &dyn Clock,
    time: Duration,
    request: impl Future<Output = Result<T>>,
) -> Result<T> {
    within(clock, time, request).await.unwrap_or_else(|| {
        let message = format!("no answer from the database within {time:?}");
        Err(Error::new(ErrorKind::DatabaseUnavailable, Party::Database, message))
    })
}

/// Rotates one pool.
pub struct InPlace<P>(Arc<Inner<P>>);

impl<P: Slots> InPlace<P> {
    /// The rotation of the pool behind `slots`, whose connector takes its [`Tag`]s from `in_force`.
    pub fn new(slots: P, in_force: Arc<InForce>, current: Current<Credentials>, settings: Settings) -> Self {
        Self(Arc::new(Inner { slots, in_force, current, settings, turn: Arc::default() }))
    }

    /// Runs until the pool is closed, or nobody has it any more.
    ///
    /// # Cancel safety
    /// Dropping the future ends the rotation: the pool goes on with what is in force, and keeps that from being revoked. An
    /// exchange that is under way is completed.
    pub async fn run(self) {
        let Inner { slots, in_force, current, .. } = &*self.0;
        let Ok(first) = in_force.get() else { return };
        let census = Arc::clone(in_force);
        current.count_connections_with(move || census.census());
        tokio::select! {
            biased;
            () = slots.closed() => {}
            () = drive(current.clone(), first, &self) => {}
            () = self.ask_now_and_then() => {}
        }
        in_force.close();
        debug!(secret = current.name(), "the pool is closed; its rotation ends");
    }

    async fn ask_now_and_then(&self) {
        let Inner { slots, in_force, current, settings, .. } = &*self.0;
        let Some(every) = settings.ask_every else { return std::future::pending().await };
        let clock = current.clock();
        loop {
            sleep_until(&**clock, clock.now() + every).await;
            let Ok(in_force) = in_force.get() else { return };
            let generation = in_force.generation();
            // An idle connection of the pool is asked, so no session is kept beside the pool for that. The adapter of
            // sqlx keeps one, because it also counts sessions on it.
            let Some(mut slot) = slots.find(&|tag| tag.generation() == generation).await else {
                continue;
            };
            match self.0.within(slots.ask(&mut slot)).await {
                Some(Err(error)) => suspect(current, generation, &error),
                Some(Ok(())) => {}
                None => {
                    debug!(secret = current.name(), %generation, "the database does not answer in time");
                    // Whoever had it next might read the answer that is still to come.
                    let _ = self.0.give_up(slot).await;
                }
            }
        }
    }
}

#[async_trait]
impl<P: Slots> Rotate for InPlace<P> {
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()> {
        let turn = self.0.turn().await;
        let Inner { slots, in_force, .. } = &*self.0;
        let full = match self.0.open(next).await {
            Ok(connection) => {
                in_force.switch(next);
                match slots.find(&|tag| tag.freshness() != Freshness::Fresh).await {
                    Some(slot) => self.0.exchange(turn, slot, connection).await?,
                    None => slots.close(connection).await,
                }
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::DatabaseFull => error,
            Err(error) => return Err(error),
        };
        let Some(idle) = slots.find(&|_| true).await else {
            let message = format!(
                "{}; adoption waits until one of the pool's connections is idle, to close it",
                full.message()
            );
            return Err(Error::new(full.kind(), full.party(), message));
        };
        let proved = Arc::clone(next);
        let adopt = move |in_force: &InForce| in_force.switch(&proved);
        self.0.exchange_in_its_own_room(turn, idle, next, adopt).await
    }

    async fn retire(&self, old: &Arc<Issued<Credentials>>) -> Retired {
        let remaining = retirement::run(&self.0, old).await;
        Retired { remaining: Some(remaining) }
    }
}

impl<P> std::fmt::Debug for InPlace<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InPlace").field("in_force", &self.0.in_force).finish_non_exhaustive()
    }
}
