//! The rotation of pools whose connections can be exchanged in place.
//!
//! Where an adapter opens the pool's connections itself (deadpool, bb8, r2d2), the new connection is opened *while the
//! old one lives*, and takes its place in the pool: no caller waits for a handshake, the pool is never smaller than it
//! was, and a failure loses nothing. The adapter implements [`Slots`], which is about its pool; [`InPlace`] is the rest.

mod in_force;
mod retirement;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tracing::{debug, warn};

pub use in_force::{Freshness, InForce, Tag, hard_phase};

use crate::{
    Credentials, Current, Error, ErrorKind, Generation, Issued, Party, Result, Retired, Rotate,
    clock::{Moment, sleep_until},
    drive,
};

/// What the rotation needs of a pool. Nothing here retries, and nothing waits for a caller of the pool.
#[async_trait]
pub trait Slots: Send + Sync {
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
    /// It must bound its own time.
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

    /// Asks the database whether it still knows the user of this connection: `SELECT session_user`, say.
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

/// Rotates one pool.
pub struct InPlace<P> {
    slots: P,
    in_force: Arc<InForce>,
    current: Current<Credentials>,
    settings: Settings,
}

impl<P: Slots> InPlace<P> {
    /// The rotation of the pool behind `slots`, whose connector takes its [`Tag`]s from `in_force`.
    pub fn new(slots: P, in_force: Arc<InForce>, current: Current<Credentials>, settings: Settings) -> Self {
        Self { slots, in_force, current, settings }
    }

    /// Runs until the pool is closed, or nobody has it any more.
    ///
    /// # Cancel safety
    /// Dropping the future ends the rotation: the pool goes on with what is in force, and keeps that from being revoked.
    pub async fn run(self) {
        let Ok(first) = self.in_force.get() else { return };
        let census = Arc::clone(&self.in_force);
        self.current.count_connections_with(move || census.census());
        tokio::select! {
            () = self.slots.closed() => {}
            () = drive(self.current.clone(), first, &self) => {}
            () = self.ask_now_and_then() => {}
        }
        self.in_force.close();
        debug!(secret = self.current.name(), "the pool is closed; its rotation ends");
    }

    async fn ask_now_and_then(&self) {
        let Some(every) = self.settings.ask_every else { return std::future::pending().await };
        let clock = self.current.clock();
        loop {
            sleep_until(&**clock, clock.now() + every).await;
            let Ok(in_force) = self.in_force.get() else { return };
            let generation = in_force.generation();
            let Some(mut slot) = self.slots.find(&|tag| tag.generation() == generation).await else {
                continue;
            };
            match self.bounded(self.slots.ask(&mut slot)).await {
                Err(error) if error.kind() == ErrorKind::CredentialsRefused => {
                    warn!(secret = self.current.name(), %generation, %error, "the database does not know the user in force any more");
                    self.current.reject(generation, error.kind());
                }
                Err(error) => {
                    debug!(secret = self.current.name(), %generation, %error, "the database does not answer")
                }
                Ok(()) => {}
            }
        }
    }

    /// Opens a connection with `next`; where there is no room for it, in the room of one that is idle.
    async fn prove(&self, next: &Arc<Issued<Credentials>>) -> Result<(P::Connection, Room<P::Slot>)> {
        let full = match self.open(next).await {
            Err(error) if error.kind() == ErrorKind::DatabaseFull => error,
            answer => return answer.map(|connection| (connection, Room::Found)),
        };
        let Some(idle) = self.slots.find(&|_| true).await else {
            let message = format!(
                "{}; adoption waits until one of the pool's connections is idle, to close it",
                full.message()
            );
            return Err(Error::new(full.kind(), full.party(), message));
        };
        let (connection, place) = self.open_in_room_of(idle, next).await?;
        Ok((connection, Room::Made(place)))
    }

    /// Opens a connection with these credentials, in bounded time.
    async fn open(&self, issued: &Arc<Issued<Credentials>>) -> Result<P::Connection> {
        self.bounded(self.slots.open(self.in_force.tag(Arc::clone(issued)))).await
    }

    /// Closes a connection of the pool and opens one with `issued` in its room on the server. Returns its place in the
    /// pool too, if that could be kept.
    async fn open_in_room_of(
        &self,
        idle: P::Slot,
        issued: &Arc<Issued<Credentials>>,
    ) -> Result<(P::Connection, Option<P::Slot>)> {
        let place = self.slots.make_room(idle).await;
        let clock = self.current.clock();
        let mut answer = self.open(issued).await;
        // The server takes a moment to notice that a connection has gone.
        for wait in [10, 30, 100, 300] {
            if !matches!(&answer, Err(error) if error.kind() == ErrorKind::DatabaseFull) {
                break;
            }
            sleep_until(&**clock, clock.now() + Duration::from_millis(wait)).await;
            answer = self.open(issued).await;
        }
        match answer {
            Ok(connection) => Ok((connection, place)),
            Err(error) => {
                if let Some(place) = place {
                    self.slots.give_up(place).await;
                }
                self.refill().await;
                Err(error)
            }
        }
    }

    async fn refill(&self) {
        let refilled = async {
            self.slots.refill().await;
            Ok(())
        };
        let _ = self.bounded(refilled).await;
    }

    /// A pool that opens its own may wait for a place in it; nobody waits for the pool to be full again.
    async fn fill(&self, connection: P::Connection) {
        let filled = async {
            self.slots.fill(connection).await;
            Ok(())
        };
        if let Err(error) = self.bounded(filled).await {
            debug!(secret = self.current.name(), %error, "a place that was given up stays empty for now");
        }
    }

    async fn bounded<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let clock = self.current.clock();
        let bound = self.settings.handshake;
        tokio::select! {
            answer = request => answer,
            () = sleep_until(&**clock, clock.now() + bound) => {
                let message = format!("no answer from the database within {bound:?}");
                Err(Error::new(ErrorKind::DatabaseUnavailable, Party::Database, message))
            }
        }
    }
}

/// Where on the server there was room for the proof.
enum Room<S> {
    /// Beside the pool.
    Found,
    /// Where a connection of the pool was, whose place is ours still, or given up.
    Made(Option<S>),
}

#[async_trait]
impl<P: Slots> Rotate for InPlace<P> {
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()> {
        let (connection, room) = self.prove(next).await?;
        self.in_force.switch(next);
        match room {
            Room::Found => match self.slots.find(&|tag| tag.freshness() != Freshness::Fresh).await {
                Some(slot) => self.slots.exchange(slot, connection).await,
                None => self.slots.close(connection).await,
            },
            Room::Made(Some(place)) => self.slots.exchange(place, connection).await,
            Room::Made(None) => self.fill(connection).await,
        }
        Ok(())
    }

    async fn retire(&self, old: &Arc<Issued<Credentials>>) -> Retired {
        let remaining = retirement::run(self, old).await;
        Retired { remaining: Some(remaining) }
    }
}

impl<P> std::fmt::Debug for InPlace<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InPlace").field("in_force", &self.in_force).finish_non_exhaustive()
    }
}
