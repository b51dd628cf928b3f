//! Any deadpool whose connections are opened with a username and a password.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, PoolBuilder, RecycleError, RecycleResult, Timeouts, WeakPool},
};
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Issued, Party, Result,
    in_place::{
        Connect, Freshness, InForce, InPlace, Settings, Slots, Tag, Tagged, end_session, terminate_all_of,
    },
};

use crate::closing::closed;

/// A pool of what `C` opens.
pub type Pool<C> = managed::Pool<Manager<C>>;

/// Opens the connections of a [`Pool`] with whatever credentials are in force.
pub struct Manager<C> {
    connect: Arc<C>,
    in_force: Arc<InForce>,
    current: Current<Credentials>,
    /// Not known before the pool is built.
    handshake: OnceLock<Duration>,
}

impl<C: Connect> Manager<C> {
    /// A manager for [`Pool::builder`](managed::Pool::builder), whose first credentials are those that are current.
    ///
    /// # Errors
    /// If there are none yet, or not any more.
    pub fn new(connect: C, current: Current<Credentials>) -> Result<Self> {
        let in_force = InForce::new(current.get()?, Arc::clone(current.clock()));
        Ok(Self { connect: Arc::new(connect), in_force, current, handshake: OnceLock::new() })
    }
}

/// Builds the pool, proves the credentials with its first connection, and rotates it from now on, until it is closed or
/// dropped.
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration) if the builder cannot build; otherwise what the first connection failed with.
pub async fn build<C: Connect>(builder: PoolBuilder<Manager<C>>, settings: Settings) -> Result<Pool<C>> {
    let pool = builder
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::new(ErrorKind::Configuration, Party::Configuration, error.to_string()))?;
    let manager = pool.manager();
    let handshake = *manager.handshake.get_or_init(|| settings.handshake);
    drop(pool.get().await.map_err(|error| match error {
        managed::PoolError::Backend(error) => error,
        other => Error::new(ErrorKind::DatabaseUnavailable, Party::Database, other.to_string()),
    })?);
    let (in_force, current) = (Arc::clone(&manager.in_force), manager.current.clone());
    let connect = Arc::clone(&manager.connect);
    let slots = Managed { pool: pool.weak(), connect, in_force: Arc::clone(&in_force), handshake };
    tokio::spawn(InPlace::new(slots, in_force, current, settings).run());
    Ok(pool)
}

impl<C: Connect> managed::Manager for Manager<C> {
    type Type = Tagged<C::Connection>;
    type Error = Error;

    async fn create(&self) -> Result<Self::Type> {
        let handshake = *self.handshake.get_or_init(|| Settings::default().handshake);
        self.in_force.open(&*self.connect, &self.current, handshake).await
    }

    async fn recycle(&self, connection: &mut Self::Type, _: &Metrics) -> RecycleResult<Error> {
        if is_looking() {
            return Ok(());
        }
        if connection.tag().freshness() == Freshness::Ended {
            return Err(RecycleError::message("its credentials have a successor, and end"));
        }
        self.connect.check(connection).await.map_err(RecycleError::Backend)
    }
}

impl<C> fmt::Debug for Manager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("in_force", &self.in_force).finish_non_exhaustive()
    }
}

struct Managed<C: Connect> {
    pool: WeakPool<Manager<C>>,
    connect: Arc<C>,
    in_force: Arc<InForce>,
    handshake: Duration,
}

#[async_trait]
impl<C: Connect> Slots for Managed<C> {
    type Connection = Tagged<C::Connection>;
    type Slot = Object<Manager<C>>;

    async fn open(&self, tag: Tag) -> Result<Self::Connection> {
        self.in_force.open_with(tag, &*self.connect, self.handshake).await
    }

    async fn find(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Self::Slot> {
        dig(&self.pool.upgrade()?, |connection| wanted(connection.tag())).await
    }

    fn is_saturated(&self) -> bool {
        self.pool.upgrade().is_some_and(|pool| is_saturated(&pool))
    }

    async fn queue(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Self::Slot> {
        queue(&self.pool.upgrade()?, |connection| wanted(connection.tag())).await
    }

    async fn exchange(&self, mut slot: Self::Slot, connection: Self::Connection) {
        let old = std::mem::replace(&mut *slot, connection);
        drop(slot);
        self.close(old).await;
    }

    async fn give_up(&self, slot: Self::Slot) {
        self.close(Object::take(slot)).await;
    }

    async fn make_room(&self, mut slot: Self::Slot) -> Option<Self::Slot> {
        if end_session(&*self.connect, &self.in_force, &mut slot).await {
            return Some(slot);
        }
        self.give_up(slot).await;
        None
    }

    async fn refill(&self) {
        if let Some(pool) = self.pool.upgrade() {
            let _ = pool.timeout_get(&REFILL).await;
        }
    }

    async fn close(&self, connection: Self::Connection) {
        connection.close(&*self.connect).await;
    }

    async fn ask(&self, slot: &mut Self::Slot) -> Result<()> {
        self.connect.ask(slot).await
    }

    async fn terminate(&self, old: &Arc<Issued<Credentials>>) -> Result<usize> {
        terminate_all_of(&*self.connect, old).await
    }

    async fn closed(&self) {
        closed(&self.pool, &self.in_force).await;
    }
}

/// Checks an idle connection out of which `wanted` says yes. A pool that hands out the one used last keeps the others
/// below it, so the ones above are held until it shows: for no longer than it takes to get there, and only if there is one.
pub(crate) async fn dig<M: managed::Manager>(
    pool: &managed::Pool<M>,
    wanted: impl Fn(&M::Type) -> bool,
) -> Option<Object<M>> {
    let mut there_is_one = false;
    // It removes nothing, and it is the only way to look at idle connections without checking them out.
    pool.retain(|connection, _| {
        there_is_one |= wanted(connection);
        true
    });
    let mut above = Vec::new();
    let mut found = None;
    while there_is_one && found.is_none() && pool.status().available > 0 {
        match LOOKING.scope((), pool.timeout_get(&AT_ONCE)).await {
            Ok(connection) if wanted(&connection) => found = Some(connection),
            Ok(other) => above.push(other),
            Err(_) => break,
        }
    }
    // Back in their order.
    while let Some(other) = above.pop() {
        drop(other);
    }
    found
}

tokio::task_local! {
    /// That it is the rotation which checks out: nothing is refused, and nothing asked of the database.
    static LOOKING: ();
}

pub(crate) fn is_looking() -> bool {
    LOOKING.try_with(|()| ()).is_ok()
}

/// Whether nothing is idle, and there is no place left to open a connection in.
pub(crate) fn is_saturated<M: managed::Manager>(pool: &managed::Pool<M>) -> bool {
    let status = pool.status();
    status.available == 0 && status.size >= status.max_size
}

/// Queues with the pool's callers.
pub(crate) async fn queue<M: managed::Manager>(
    pool: &managed::Pool<M>,
    wanted: impl Fn(&M::Type) -> bool,
) -> Option<Object<M>> {
    let in_turn = Timeouts { wait: Some(A_TURN), ..AT_ONCE };
    LOOKING.scope((), pool.timeout_get(&in_turn)).await.ok().filter(|connection| wanted(connection))
}

/// Opens a connection if there is a place for it, and queues with nobody.
pub(crate) const REFILL: Timeouts = Timeouts { create: Some(Duration::from_secs(5)), ..AT_ONCE };
const A_TURN: Duration = Duration::from_millis(250);
/// Neither waits for a place nor opens a connection.
pub(crate) const AT_ONCE: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: Some(Duration::ZERO),
    recycle: Some(Duration::from_secs(2)),
};
