//! What adoption and retirement both do to a pool, and what of it is never left half-done.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::{Instrument, debug};

use super::{InForce, Settings, Slots, answered_within};
use crate::{
    Credentials, Current, Error, ErrorKind, Issued, Party, Result,
    clock::{sleep_until, within},
};

/// A rotation, and what goes on for a moment when it is dropped.
pub(super) struct Inner<P> {
    pub(super) slots: P,
    pub(super) in_force: Arc<InForce>,
    pub(super) current: Current<Credentials>,
    pub(super) settings: Settings,
    /// Held by whoever opens or exchanges. What a retirement that was dropped has left to do comes before the next
    /// adoption, or the two would have more sessions than one beside the pool's.
    pub(super) turn: Arc<Mutex<()>>,
}

/// The right to open or exchange connections.
pub(super) type Turn = OwnedMutexGuard<()>;

impl<P: Slots> Inner<P> {
    /// Waits until what was begun before is done.
    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Opens a connection with these credentials, in bounded time.
    pub(super) async fn open(&self, issued: &Arc<Issued<Credentials>>) -> Result<P::Connection> {
        self.bounded(self.slots.open(self.in_force.tag(Arc::clone(issued)))).await
    }

    /// Puts a connection in the place of another.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        turn: Turn,
        slot: P::Slot,
        connection: P::Connection,
    ) -> Result<()> {
        let this = Arc::clone(self);
        to_its_end(async move {
            this.slots.exchange(slot, connection).await;
            drop(turn);
            Ok(())
        })
        .await
    }

    /// Closes a connection and gives its place up.
    pub(super) async fn give_up(self: &Arc<Self>, slot: P::Slot) -> Result<()> {
        let this = Arc::clone(self);
        to_its_end(async move {
            this.slots.give_up(slot).await;
            Ok(())
        })
        .await
    }

    /// Closes a connection of the pool, opens one with `issued` in its room on the server, and has the pool take that in its
    /// place; `opened` is called in between. A failure leaves the place to the pool.
    pub(super) async fn exchange_in_its_own_room(
        self: &Arc<Self>,
        turn: Turn,
        idle: P::Slot,
        issued: &Arc<Issued<Credentials>>,
        opened: impl FnOnce(&InForce) + Send + 'static,
    ) -> Result<()> {
        let (this, issued) = (Arc::clone(self), Arc::clone(issued));
        to_its_end(async move {
            let _turn = turn;
            let place = this.slots.make_room(idle).await;
            match this.open_in_room(&issued).await {
                Ok(connection) => {
                    opened(&this.in_force);
                    match place {
                        Some(place) => this.slots.exchange(place, connection).await,
                        None => this.fill(connection).await,
                    }
                    Ok(())
                }
                Err(error) => {
                    if let Some(place) = place {
                        this.slots.give_up(place).await;
                    }
                    this.refill().await;
                    Err(error)
                }
            }
        })
        .await
    }

    /// The server takes a moment to notice that a connection has gone.
    async fn open_in_room(&self, issued: &Arc<Issued<Credentials>>) -> Result<P::Connection> {
        let clock = self.current.clock();
        let mut answer = self.open(issued).await;
        for wait in [10, 30, 100, 300] {
            if !matches!(&answer, Err(error) if error.kind() == ErrorKind::DatabaseFull) {
                break;
            }
            sleep_until(&**clock, clock.now() + Duration::from_millis(wait)).await;
            answer = self.open(issued).await;
        }
        answer
    }

    async fn refill(&self) {
        let _ = self.within(self.slots.refill()).await;
    }

    /// A pool that opens its own may wait for a place in it; nobody waits for the pool to be full again.
    async fn fill(&self, connection: P::Connection) {
        if self.within(self.slots.fill(connection)).await.is_none() {
            debug!(secret = self.current.name(), "a place that was given up stays empty for now");
        }
    }

    pub(super) async fn bounded<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        answered_within(&**self.current.clock(), self.settings.handshake, request).await
    }

    /// What comes of it within the time that a handshake may take.
    pub(super) async fn within<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        within(&**self.current.clock(), self.settings.handshake, request).await
    }
}

/// Does what must not stop between the end of one session and the beginning of another, however many newer generations
/// arrive meanwhile: whoever waits for it may be dropped. A dead connection would go back to the pool otherwise.
async fn to_its_end(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|_| {
        let message = "a step of the pool's rotation panicked, or its runtime has ended";
        Err(Error::new(ErrorKind::Unexpected, Party::Configuration, message))
    })
}
