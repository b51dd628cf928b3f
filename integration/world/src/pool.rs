//! A pool of connections that are exchanged in place, as the adapters have them: the rotation, the proof and the retirement
//! are core's own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Generation, Issued, Party, Result, async_trait,
    clock::{Moment, sleep_until, within},
    in_place::{self, Freshness, InForce, Slots, Tag, Tagged},
};
use tokio::sync::{Notify, oneshot};

use crate::{
    database::{Connection, Driver},
    sometimes::Sometimes,
    time::{OwnClock, lock},
};

#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    driver: Driver,
    clock: Arc<OwnClock>,
    in_force: Arc<InForce>,
    current: Current<Credentials>,
    saturable: bool,
    state: Mutex<State>,
    came_back: Notify,
}

struct State {
    idle: Vec<Tagged<Connection>>,
    /// Places that are idle or out. The others are empty.
    taken: usize,
    size: usize,
    offer: Option<Offer>,
}

/// A connection that waits for one of another generation to come back.
struct Offer {
    of: Generation,
    fresh: Tagged<Connection>,
    old: oneshot::Sender<Tagged<Connection>>,
}

/// A place of the pool, checked out. Dropping it gives it back.
pub(crate) struct Slot {
    pool: Arc<Shared>,
    connection: Option<Tagged<Connection>>,
    is_callers: bool,
}

impl Pool {
    pub(crate) fn new(
        size: usize,
        saturable: bool,
        driver: Driver,
        clock: Arc<OwnClock>,
        in_force: Arc<InForce>,
        current: Current<Credentials>,
    ) -> Self {
        let state = Mutex::new(State { idle: Vec::new(), taken: 0, size, offer: None });
        Self(Arc::new(Shared {
            driver,
            clock,
            in_force,
            current,
            saturable,
            state,
            came_back: Notify::new(),
        }))
    }

    /// Checks a connection out for a caller, who waits half a minute at most.
    pub(crate) async fn get(&self) -> Result<Slot> {
        let shared = &self.0;
        let waited = within(&*shared.clock, LONGEST_WAIT, async {
            loop {
                let came_back = shared.came_back.notified();
                if let Some(answer) = self.try_get().await {
                    return answer;
                }
                came_back.await;
            }
        });
        waited.await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::DatabaseUnavailable, Party::Database, "the pool gave none in time"))
        })
    }

    async fn try_get(&self) -> Option<Result<Slot>> {
        let shared = &self.0;
        loop {
            if let Err(closed) = shared.in_force.get() {
                return Some(Err(closed));
            }
            let next = {
                let mut state = lock(&shared.state);
                match state.idle.pop() {
                    Some(connection) => Some(connection),
                    None if state.taken < state.size => {
                        state.taken += 1;
                        None
                    }
                    None => return None,
                }
            };
            let mut slot = Slot { pool: Arc::clone(shared), connection: None, is_callers: true };
            match next {
                Some(idle) if idle.is_open() && idle.tag().freshness() != Freshness::Ended => {
                    slot.connection = Some(idle);
                    return Some(Ok(slot));
                }
                // The place is given up with the connection, and the next turn of the loop takes it again.
                Some(ended) => drop((slot, ended)),
                None => {
                    let opened = shared.in_force.open(&shared.driver, &shared.current, HANDSHAKE).await;
                    return Some(opened.map(|connection| {
                        slot.connection = Some(connection);
                        slot
                    }));
                }
            }
        }
    }

    /// Which generations the idle connections have.
    pub(crate) fn generations(&self) -> Vec<Generation> {
        lock(&self.0.state).idle.iter().map(|idle| idle.tag().generation()).collect()
    }

    /// Closes the pool: what is idle goes at once, and what is borrowed when it comes back.
    pub(crate) fn close(&self) {
        self.0.in_force.close();
        let idle = {
            let mut state = lock(&self.0.state);
            let idle = std::mem::take(&mut state.idle);
            state.taken -= idle.len();
            idle
        };
        drop(idle);
    }
}

impl Shared {
    fn sometimes(&self, what: Sometimes) {
        self.driver.oracle.sometimes(what);
    }
}

impl Slot {
    pub(crate) fn connection(&self) -> Option<&Tagged<Connection>> {
        self.connection.as_ref()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut connection = self.connection.take();
        if self.pool.in_force.get().is_err() {
            drop(connection.take());
        }
        let mut old = None;
        {
            let mut state = lock(&self.pool.state);
            let takes =
                |offer: &mut Offer| connection.as_ref().is_some_and(|old| old.tag().generation() == offer.of);
            if self.is_callers
                && let Some(offer) = state.offer.take_if(takes)
            {
                old = connection.replace(offer.fresh).map(|came_back| (offer.old, came_back));
            }
            match connection.take() {
                Some(connection) => state.idle.insert(0, connection),
                None => state.taken -= 1,
            }
        }
        if let Some((told, came_back)) = old {
            self.pool.sometimes(Sometimes::ExchangedInPassing);
            let _ = told.send(came_back);
        }
        self.pool.came_back.notify_waiters();
    }
}

#[async_trait]
impl Slots for Pool {
    type Connection = Tagged<Connection>;
    type Slot = Slot;

    async fn open(&self, tag: Tag) -> Result<Tagged<Connection>> {
        self.0.in_force.open_with(tag, &self.0.driver, HANDSHAKE).await
    }

    async fn find(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Slot> {
        let mut state = lock(&self.0.state);
        let place = state.idle.iter().position(|idle| wanted(idle.tag()))?;
        let connection = Some(state.idle.remove(place));
        drop(state);
        Some(Slot { pool: Arc::clone(&self.0), connection, is_callers: false })
    }

    async fn exchange(&self, mut slot: Slot, connection: Tagged<Connection>) {
        drop(slot.connection.replace(connection));
    }

    async fn give_up(&self, mut slot: Slot) {
        drop(slot.connection.take());
    }

    async fn make_room(&self, mut slot: Slot) -> Option<Slot> {
        let connection = slot.connection.as_mut()?;
        let is_room = in_place::end_session(&self.0.driver, &self.0.in_force, connection).await;
        is_room.then(|| {
            self.0.sometimes(Sometimes::MadeRoom);
            slot
        })
    }

    fn is_saturated(&self) -> bool {
        let state = lock(&self.0.state);
        let is_saturated = self.0.saturable && state.idle.is_empty() && state.taken == state.size;
        drop(state);
        if is_saturated {
            self.0.sometimes(Sometimes::Saturated);
        }
        is_saturated
    }

    async fn exchange_next(
        &self,
        of: Generation,
        connection: Tagged<Connection>,
        until: Moment,
    ) -> Option<Tagged<Connection>> {
        let (told, old) = oneshot::channel();
        lock(&self.0.state).offer = Some(Offer { of, fresh: connection, old: told });
        let withdraw = Withdraw(&self.0);
        tokio::select! {
            biased;
            Ok(_old) = old => return None,
            () = sleep_until(&*self.0.clock, until) => {}
        }
        let left = lock(&withdraw.0.state).offer.take();
        left.map(|offer| {
            self.0.sometimes(Sometimes::NobodyCameBack);
            offer.fresh
        })
    }

    async fn ask(&self, slot: &mut Slot) -> Result<()> {
        let Some(connection) = slot.connection.as_mut() else { return Ok(()) };
        connection.ask().await.map_err(crate::database::error)
    }

    async fn terminate(&self, old: &Arc<Issued<Credentials>>) -> Result<usize> {
        in_place::terminate_all_of(&self.0.driver, old).await
    }

    async fn closed(&self) {
        self.0.in_force.closed().await;
    }
}

struct Withdraw<'a>(&'a Shared);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let offer = lock(&self.0.state).offer.take();
        drop(offer);
    }
}

const HANDSHAKE: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
