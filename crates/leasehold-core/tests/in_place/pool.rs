//! A pool with a fixed number of places, which does what its script says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use leasehold_core::{
    Credentials, Error, ErrorKind, Generation, Issued, Party, Result, async_trait,
    clock::{Clock, Moment, TestClock, sleep_until},
    in_place::{InForce, Slots, Tag},
};
use tokio::sync::oneshot;

use crate::server::{Server, Session};

/// What comes of a handshake, or of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Fails(ErrorKind),
    Hangs,
}

/// What the rotation can do where every connection is borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenSaturated {
    Nothing,
    Queue,
    ExchangeNext,
}

/// How a pool takes it when one of its connections has to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The connection is ended on the server, and its place stays the rotation's.
    Kept,
    /// The place is given up, and takes a connection from outside.
    Filled,
    /// The place is given up, and the pool opens a connection in it by itself.
    Refilled,
}

pub(crate) struct Script {
    pub(crate) handshake: Duration,
    /// Of the next handshakes.
    pub(crate) outcomes: VecDeque<Outcome>,
    /// Of those after them.
    pub(crate) outcome: Outcome,
    pub(crate) room: Room,
    pub(crate) when_saturated: WhenSaturated,
    pub(crate) is_surplus: bool,
    pub(crate) answer: Outcome,
}

/// What was asked of the pool, and when.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) opened: Vec<(Moment, Generation)>,
    pub(crate) exchanged: Vec<Moment>,
    pub(crate) asked: Vec<Moment>,
    pub(crate) terminated: Vec<Moment>,
    pub(crate) given_up: usize,
    pub(crate) queued: usize,
}

struct State {
    places: Vec<Place>,
    script: Script,
    log: Log,
    /// Whoever queues for the next connection that comes back.
    waiting: Option<oneshot::Sender<Slot>>,
    offer: Option<Offer>,
}

enum Place {
    Idle(Connection),
    Out,
    /// Given up: the pool opens a connection when somebody asks for one.
    Empty,
}

struct Offer {
    of: Generation,
    connection: Connection,
    old: oneshot::Sender<Connection>,
}

pub(crate) struct Connection {
    /// None if the server has ended it.
    session: Option<Session>,
    tag: Tag,
}

#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    clock: Arc<TestClock>,
    in_force: Arc<InForce>,
    server: Arc<Server>,
    state: Mutex<State>,
}

/// One place, checked out. Dropping it gives it back.
pub(crate) struct Slot {
    pool: Arc<Shared>,
    place: usize,
    connection: Option<Connection>,
    /// A caller has it, and not the rotation.
    borrowed: bool,
}

impl Pool {
    /// A pool whose places are all filled with what is in force.
    pub(crate) fn full(size: usize, clock: Arc<TestClock>, in_force: Arc<InForce>) -> Self {
        let script = Script {
            handshake: Duration::from_millis(5),
            outcomes: VecDeque::new(),
            outcome: Outcome::Ok,
            room: Room::Kept,
            when_saturated: WhenSaturated::Nothing,
            is_surplus: false,
            answer: Outcome::Ok,
        };
        let server = Arc::new(Server::default());
        let connection = |_| {
            let tag = in_force.tag(in_force.get().unwrap());
            Place::Idle(Connection { session: server.enter(), tag })
        };
        let places = (0..size).map(connection).collect();
        let state = State { places, script, log: Log::default(), waiting: None, offer: None };
        Self(Arc::new(Shared { clock, in_force, server, state: Mutex::new(state) }))
    }

    pub(crate) fn server(&self) -> &Server {
        &self.0.server
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.state().script);
    }

    pub(crate) fn log<T>(&self, read: impl FnOnce(&Log) -> T) -> T {
        read(&self.0.state().log)
    }

    /// Which generations the idle connections have, in order; those that the server has ended have none.
    pub(crate) fn idle(&self) -> Vec<Option<u64>> {
        let generation = |place: &Place| match place {
            Place::Idle(Connection { session, tag }) => {
                Some(session.is_some().then(|| tag.generation().number()))
            }
            Place::Out | Place::Empty => None,
        };
        self.0.state().places.iter().filter_map(generation).collect()
    }

    /// How many places have no connection.
    pub(crate) fn empty(&self) -> usize {
        self.0.state().places.iter().filter(|place| matches!(place, Place::Empty)).count()
    }

    /// Borrows an idle connection.
    pub(crate) fn borrow(&self) -> Slot {
        let mut slot = take(&self.0, |_| true).unwrap();
        slot.borrowed = true;
        slot
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn pass(&self, time: Duration) {
        sleep_until(&*self.clock, self.clock.now() + time).await;
    }

    async fn open(&self, tag: Tag) -> Result<Connection> {
        let (handshake, outcome) = {
            let mut state = self.state();
            state.log.opened.push((self.clock.now(), tag.generation()));
            let scripted = state.script.outcomes.pop_front();
            (state.script.handshake, scripted.unwrap_or(state.script.outcome))
        };
        let session = self.server.enter();
        self.pass(handshake).await;
        if session.is_none() {
            return Err(error(ErrorKind::DatabaseFull));
        }
        self.come_to(outcome).await?;
        Ok(Connection { session, tag })
    }

    async fn come_to(&self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Ok => Ok(()),
            Outcome::Fails(kind) => Err(error(kind)),
            Outcome::Hangs => std::future::pending().await,
        }
    }

    fn is_saturated(&self) -> bool {
        let state = self.state();
        state.script.when_saturated != WhenSaturated::Nothing
            && state.places.iter().all(|place| matches!(place, Place::Out))
    }

    /// What comes back goes to whoever waits for it, or makes room for what is offered.
    fn give_back(self: &Arc<Self>, place: usize, mut connection: Option<Connection>, borrowed: bool) {
        let waiting = if borrowed { self.state().waiting.take() } else { None };
        if let Some(waiting) = waiting {
            let slot = Slot { pool: Arc::clone(self), place, connection, borrowed: false };
            match waiting.send(slot) {
                Ok(()) => return,
                Err(mut back) => connection = back.connection.take(),
            }
        }
        let offer = self.state().offer.take_if(|offer| {
            borrowed && connection.as_ref().is_some_and(|old| old.tag.generation() == offer.of)
        });
        if let Some(Offer { connection: fresh, old, .. }) = offer
            && let Some(came_back) = connection.replace(fresh)
        {
            let _ = old.send(came_back);
        }
        self.state().places[place] = connection.map_or(Place::Empty, Place::Idle);
    }
}

impl Slot {
    pub(crate) fn is_alive(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.session.is_some())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.give_back(self.place, self.connection.take(), self.borrowed);
    }
}

fn take(pool: &Arc<Shared>, wanted: impl Fn(&Tag) -> bool) -> Option<Slot> {
    let mut state = pool.state();
    let is_wanted = |place: &Place| matches!(place, Place::Idle(idle) if wanted(&idle.tag));
    let place = state.places.iter().position(is_wanted)?;
    let Place::Idle(connection) = std::mem::replace(&mut state.places[place], Place::Out) else {
        return None;
    };
    Some(Slot { pool: Arc::clone(pool), place, connection: Some(connection), borrowed: false })
}

#[async_trait]
impl Slots for Pool {
    type Connection = Connection;
    type Slot = Slot;

    async fn open(&self, tag: Tag) -> Result<Connection> {
        self.0.open(tag).await
    }

    async fn find(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Slot> {
        tokio::task::yield_now().await;
        take(&self.0, wanted)
    }

    async fn queue(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Slot> {
        let (sender, next) = oneshot::channel();
        {
            let mut state = self.0.state();
            if state.script.when_saturated != WhenSaturated::Queue {
                return None;
            }
            state.log.queued += 1;
            state.waiting = Some(sender);
        }
        tokio::select! {
            next = next => next.ok().filter(|slot| slot.connection.as_ref().is_some_and(|next| wanted(&next.tag))),
            () = self.0.pass(Duration::from_millis(100)) => None,
        }
    }

    async fn exchange(&self, mut slot: Slot, connection: Connection) {
        let old = slot.connection.take();
        // The worst moment to be interrupted in.
        self.0.pass(MOMENT).await;
        slot.connection = Some(connection);
        self.0.state().log.exchanged.push(self.0.clock.now());
        drop(slot);
        self.0.pass(MOMENT).await;
        drop(old);
    }

    async fn give_up(&self, mut slot: Slot) {
        self.0.state().log.given_up += 1;
        let connection = slot.connection.take();
        self.0.pass(MOMENT).await;
        drop((connection, slot));
    }

    async fn make_room(&self, mut slot: Slot) -> Option<Slot> {
        let room = self.0.state().script.room;
        if room != Room::Kept {
            self.give_up(slot).await;
            return None;
        }
        if let Some(connection) = &mut slot.connection {
            connection.session = None;
        }
        self.0.pass(MOMENT).await;
        Some(slot)
    }

    async fn refill(&self) {
        let opened = self.0.open(self.0.in_force.tag(self.0.in_force.get().unwrap())).await;
        if let Ok(connection) = opened {
            put(&self.0, connection);
        }
    }

    async fn fill(&self, connection: Connection) {
        if self.0.state().script.room == Room::Filled {
            drop(put(&self.0, connection));
            return;
        }
        self.close(connection).await;
        self.refill().await;
    }

    fn is_saturated(&self) -> bool {
        self.0.is_saturated()
    }

    async fn exchange_next(
        &self,
        of: Generation,
        connection: Connection,
        until: Moment,
    ) -> Option<Connection> {
        let (sender, mut old) = oneshot::channel();
        {
            let mut state = self.0.state();
            if state.script.when_saturated != WhenSaturated::ExchangeNext {
                return Some(connection);
            }
            state.offer = Some(Offer { of, connection, old: sender });
        }
        let withdraw = Withdraw(&self.0);
        tokio::select! {
            biased;
            Ok(_old) = &mut old => return None,
            () = sleep_until(&*self.0.clock, until) => {}
        }
        let left = withdraw.0.state().offer.take();
        left.map(|offer| offer.connection)
    }

    fn is_surplus(&self, _: &Slot, _: Duration) -> bool {
        self.0.state().script.is_surplus
    }

    async fn ask(&self, _: &mut Slot) -> Result<()> {
        let answer = {
            let mut state = self.0.state();
            state.log.asked.push(self.0.clock.now());
            state.script.answer
        };
        self.0.come_to(answer).await
    }

    async fn terminate(&self, old: &Arc<Issued<Credentials>>) -> Result<usize> {
        self.0.state().log.terminated.push(self.0.clock.now());
        let _session = self.0.server.enter().ok_or_else(|| error(ErrorKind::DatabaseFull))?;
        Ok(self.0.in_force.count(old.generation()))
    }

    async fn closed(&self) {
        self.0.in_force.closed().await;
    }
}

/// Puts a connection in an empty place, if there is one.
fn put(pool: &Arc<Shared>, connection: Connection) -> Option<Connection> {
    let mut state = pool.state();
    match state.places.iter_mut().find(|place| matches!(place, Place::Empty)) {
        Some(place) => {
            *place = Place::Idle(connection);
            None
        }
        None => Some(connection),
    }
}

struct Withdraw<'a>(&'a Shared);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let offer = self.0.state().offer.take();
        drop(offer);
    }
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, Party::Database, format!("scripted: {kind}"))
}

const MOMENT: Duration = Duration::from_millis(1);
