//! The rotation's view of the pool.

use std::{
    cell::Cell,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    manager::{Connection, LOOKING, Manager, OPEN_WITH, Shared},
    pool::Handle,
};
use async_trait::async_trait;
use bb8::{PooledConnection, QueueStrategy};
use futures_util::FutureExt;
use leasehold_core::{
    Credentials, Error, ErrorKind, Generation, Issued, Party, Result,
    clock::{Moment, sleep_until},
    in_place::{Connect, Slots, Tag, end_session, terminate_all_of},
};

pub(crate) struct Places<C: Connect> {
    pub(crate) handle: Weak<Handle<C>>,
    pub(crate) shared: Arc<Shared<C>>,
}

impl<C: Connect> Places<C> {
    /// The pool is held for no longer than a step of the rotation takes, and the users' handle not at all.
    fn pool(&self) -> Option<bb8::Pool<Manager<C>>> {
        self.handle.upgrade().map(|handle| handle.pool.clone())
    }

    fn idle_for(&self, connection: &Connection<C::Connection>) -> Duration {
        connection.idle_since.until(self.shared.in_force.clock().now())
    }
}

/// Opens a connection as the pool would, with what the user has done to each of them; but once, and outside the pool.
pub(crate) async fn open<C: Connect>(
    pool: &bb8::Pool<Manager<C>>,
    tag: Tag,
) -> Result<Connection<C::Connection>> {
    OPEN_WITH.scope(Cell::new(Some(tag)), pool.dedicated_connection()).await
}

/// Checks the next idle connection out, if there is one: without a question to the database, without waiting, and
/// without an opening that somebody would wait for.
pub(crate) fn take_idle<C: Connect>(
    pool: &bb8::Pool<Manager<C>>,
) -> Option<PooledConnection<'static, Manager<C>>> {
    if pool.state().idle_connections == 0 {
        return None;
    }
    // Polled once. If another caller was faster, bb8 may open one more, within `max_size`; it stays in the pool.
    let mut slot = LOOKING.sync_scope((), || pool.get_owned().now_or_never())?.ok()?;
    slot.ours = true;
    Some(slot)
}

#[async_trait]
impl<C: Connect> Slots for Places<C> {
    type Connection = Connection<C::Connection>;
    type Slot = PooledConnection<'static, Manager<C>>;

    async fn open(&self, tag: Tag) -> Result<Self::Connection> {
        let gone = || Error::new(ErrorKind::Closed, Party::Configuration, "nobody has the pool any more");
        open(&self.pool().ok_or_else(gone)?, tag).await
    }

    async fn find(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Self::Slot> {
        let pool = self.pool()?;
        let config = pool.config();
        let mut above = Vec::new();
        let mut found = None;
        for _ in 0..pool.state().idle_connections {
            let Some(mut slot) = take_idle(&pool) else { break };
            // Whatever is taken out and put back looks just used to bb8, which would never close it. One that is too old is
            // closed when it is put back, whatever is in its place by then.
            let is_over = config.idle_timeout.is_some_and(|timeout| self.idle_for(&slot) >= timeout);
            if is_over || self.shared.expires(&slot) {
                slot.condemned = true;
            } else if wanted(slot.tagged.tag()) {
                found = Some(slot);
                break;
            } else if matches!(config.queue_strategy, QueueStrategy::Lifo) {
                above.push(slot);
            }
            // First in, first out: it goes to the end of the queue, and the next one is another.
        }
        // Back in the order in which they were.
        while let Some(slot) = above.pop() {
            drop(slot);
        }
        found
    }

    async fn exchange(&self, mut slot: Self::Slot, mut connection: Self::Connection) {
        if self.shared.expires(&slot) {
            // It took until now to open the other, which would be closed with the place.
            self.give_up(slot).await;
            return self.fill(connection).await;
        }
        // No caller has had it since.
        (connection.idle_since, connection.ours) = (slot.idle_since, true);
        connection.place_since = slot.place_since;
        let old = std::mem::replace(&mut *slot, connection);
        drop(slot);
        self.close(old).await;
    }

    async fn give_up(&self, mut slot: Self::Slot) {
        slot.condemned = true;
    }

    async fn make_room(&self, mut slot: Self::Slot) -> Option<Self::Slot> {
        if end_session(&self.shared.connect, &self.shared.in_force, &mut slot).await {
            return Some(slot);
        }
        self.give_up(slot).await;
        None
    }

    async fn fill(&self, connection: Self::Connection) {
        let Some(pool) = self.pool() else { return };
        if let Err(bb8::AddError::Broken(left) | bb8::AddError::NoCapacity(left)) = pool.add(connection) {
            self.close(left).await;
        }
    }

    async fn close(&self, connection: Self::Connection) {
        connection.tagged.close(&self.shared.connect).await;
    }

    fn is_surplus(&self, slot: &Self::Slot, reign: Duration) -> bool {
        let Some(pool) = self.pool() else { return false };
        let config = pool.config();
        // Without an idle timeout the user wants them all.
        let Some(longest) = config.idle_timeout else { return false };
        let enough = (reign / 2).max(AT_LEAST_IDLE).min(longest);
        self.idle_for(slot) >= enough && pool.state().idle_connections >= config.min_idle.unwrap_or(0)
    }

    fn is_saturated(&self) -> bool {
        self.pool().is_some_and(|pool| {
            let state = pool.state();
            state.idle_connections == 0 && state.connections >= pool.config().max_size
        })
    }

    async fn exchange_next(
        &self,
        of: Generation,
        connection: Self::Connection,
        until: Moment,
    ) -> Option<Self::Connection> {
        let until = sleep_until(self.shared.in_force.clock(), until);
        match self.shared.relay.exchange(of, connection, until).await {
            Ok(old) => {
                if let Some(old) = old {
                    self.close(old).await;
                }
                None
            }
            Err(mut left) => {
                if self.shared.is_of_use(&mut left) {
                    return Some(left);
                }
                self.close(left).await;
                None
            }
        }
    }

    async fn ask(&self, slot: &mut Self::Slot) -> Result<()> {
        self.shared.connect.ask(slot).await
    }

    async fn terminate(&self, old: &Arc<Issued<Credentials>>) -> Result<usize> {
        terminate_all_of(&self.shared.connect, old).await
    }

    async fn closed(&self) {
        self.shared.in_force.closed().await;
    }
}

/// In a busy pool most connections wait some milliseconds at any moment.
const AT_LEAST_IDLE: Duration = Duration::from_secs(1);
