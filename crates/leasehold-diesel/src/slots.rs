//! The rotation's view of the pool. Whatever waits for the database does so on a thread for that.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use diesel::{
    QueryResult,
    r2d2::{CustomizeConnection, PooledConnection},
};
use leasehold_core::{
    Credentials, Error, ErrorKind, Generation, Issued, Party, Result,
    in_place::{self, Tag},
};

use crate::{
    address::{configuration, without_secrets},
    customize::Customize,
    database::Database,
    manager::{Manager, Pool, Shared, sweeping},
    rider::{Aboard, aboard},
};

pub(crate) struct Slots<C: Database> {
    pool: Pool<C>,
    shared: Arc<Shared<C>>,
    /// What the server's lists call the user of a generation. Behind a proxy that logs in by itself they never had it.
    known: Mutex<Option<(Generation, u64)>>,
}

impl<C: Database> Slots<C> {
    /// `known` is what the server said of the first user.
    pub(crate) fn new(pool: Pool<C>, shared: Arc<Shared<C>>, known: Option<(Generation, u64)>) -> Self {
        Self { pool, shared, known: Mutex::new(known) }
    }

    /// Checks an idle connection out of which `wanted` says yes. r2d2 hands out the one used last, so the ones above it
    /// are held until it shows: no longer than it takes to get there, and only if there is one.
    fn dig(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Slot<C>> {
        if !self.shared.riders.any_idle(wanted) {
            return None;
        }
        let mut above = Vec::new();
        let found = loop {
            let Some(connection) = sweeping(|| self.pool.try_get()) else { break None };
            let slot = Slot::new(connection);
            if slot.aboard.as_ref().is_some_and(|aboard| wanted(aboard.tag())) {
                break Some(slot);
            }
            above.push(slot);
        };
        // Back in their order.
        while let Some(slot) = above.pop() {
            drop(slot);
        }
        found
    }

    fn release(&self) -> impl FnOnce(C) + Send + 'static {
        let customizer = Customize(Arc::clone(&self.shared.customizer));
        move |connection| customizer.on_release(connection)
    }

    fn error(&self, credentials: &Credentials, error: &diesel::result::Error) -> Error {
        let said = error.to_string();
        let message = format!("as {}: {}", credentials.username(), without_secrets(&said, credentials));
        let kind = match error {
            diesel::result::Error::BrokenTransactionManager => ErrorKind::DatabaseUnavailable,
            _ => C::kind_of(&said),
        };
        Error::new(kind, Party::Database, message)
    }

    /// Whether the server has ever told who this user is.
    fn knows(&self, issued: &Issued<Credentials>) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_some_and(|(generation, _)| generation == issued.generation())
    }

    /// What the server's answer says about the user: nothing, if it never knew it.
    fn judge(&self, issued: &Issued<Credentials>, identity: Option<u64>) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before =
            known.filter(|(generation, _)| *generation == issued.generation()).map(|(_, identity)| identity);
        match (before, identity) {
            (Some(before), now) if now != Some(before) => {
                let message = format!("{} was dropped", issued.secret().username());
                Err(Error::new(ErrorKind::CredentialsRefused, Party::Database, message))
            }
            (None, Some(now)) => {
                *known = Some((issued.generation(), now));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl<C: Database> in_place::Slots for Slots<C> {
    type Connection = C;
    type Slot = Slot<C>;

    async fn open(&self, tag: Tag) -> Result<C> {
        let (shared, issued) = (Arc::clone(&self.shared), Arc::clone(tag.issued()));
        let unknown = !self.knows(&issued);
        let (connection, identity) = elsewhere(move || {
            let mut connection = shared.open_customized(tag)?;
            let identity = unknown.then(|| connection.identity(issued.secret().username()));
            Ok::<_, Error>((connection, identity.and_then(|identity| Some((issued, identity.ok()??)))))
        })
        .await??;
        if let Some((issued, identity)) = identity {
            self.judge(&issued, Some(identity))?;
        }
        Ok(connection)
    }

    async fn find(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Slot<C>> {
        self.dig(wanted)
    }

    fn is_saturated(&self) -> bool {
        let state = self.pool.state();
        state.idle_connections == 0 && state.connections >= self.pool.max_size()
    }

    /// Waits for a turn like any caller, and for no longer than a moment, where every connection has somebody waiting for
    /// it: nothing is ever idle there.
    async fn queue(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Slot<C>> {
        for _ in 0..TURNS {
            if !self.is_saturated() || !self.shared.riders.any(wanted) {
                return None;
            }
            let pool = self.pool.clone();
            let turn = elsewhere(move || sweeping(|| pool.get_timeout(LONGEST_TURN)).ok().map(Slot::new));
            let slot = turn.await.ok()??;
            if slot.aboard.as_ref().is_some_and(|aboard| wanted(aboard.tag())) {
                return Some(slot);
            }
        }
        None
    }

    async fn exchange(&self, mut slot: Slot<C>, connection: C) {
        let release = self.release();
        let exchanged = elsewhere(move || {
            let old = slot.replace(connection);
            drop(slot);
            release(old);
        });
        let _ = exchanged.await;
    }

    async fn give_up(&self, slot: Slot<C>) {
        let given_up = elsewhere(move || {
            if let Some(aboard) = &slot.aboard {
                aboard.condemn();
            }
            drop(slot);
        });
        let _ = given_up.await;
    }

    async fn make_room(&self, mut slot: Slot<C>) -> Option<Slot<C>> {
        // A place that is given up is one in which r2d2 opens a connection at once, with the credentials before these.
        let (slot, ended) = elsewhere(move || {
            let ended = slot.with(C::end_this).is_err();
            (slot, ended)
        })
        .await
        .ok()?;
        if ended {
            return Some(slot);
        }
        self.give_up(slot).await;
        None
    }

    async fn close(&self, connection: C) {
        let release = self.release();
        let _ = elsewhere(move || release(connection)).await;
    }

    fn is_surplus(&self, slot: &Slot<C>, reign: Duration) -> bool {
        let (Some(fewest), Some(aboard)) = (self.pool.min_idle(), &slot.aboard) else { return false };
        let unused = aboard.used().until(self.shared.in_force.clock().now());
        self.pool.state().idle_connections >= fewest && unused > reign / 2
    }

    async fn ask(&self, slot: &mut Slot<C>) -> Result<()> {
        let Some(issued) = slot.aboard.as_ref().map(|aboard| Arc::clone(aboard.tag().issued())) else {
            return Ok(());
        };
        let username = issued.secret().username().to_owned();
        let mut taken = Slot { connection: slot.connection.take(), aboard: slot.aboard.take() };
        let (mut taken, answer) = elsewhere(move || {
            let answer = taken.with(|connection| connection.identity(&username));
            (taken, answer)
        })
        .await?;
        (slot.connection, slot.aboard) = (taken.connection.take(), taken.aboard.take());
        match answer {
            Ok(identity) => self.judge(&issued, identity),
            Err(error) => Err(self.error(issued.secret(), &error)),
        }
    }

    async fn terminate(&self, old: &Arc<Issued<Credentials>>) -> Result<usize> {
        let (shared, tag) = (Arc::clone(&self.shared), self.shared.in_force.tag(Arc::clone(old)));
        let ended =
            elsewhere(move || shared.open(tag).map(|mut connection| connection.end_others())).await??;
        ended.map_err(|error| self.error(old.secret(), &error))
    }

    /// r2d2 does not tell that nobody else has the pool: see [`Rotation`](crate::Rotation).
    async fn closed(&self) {
        let mut current = self.shared.current.clone();
        while !matches!(current.get(), Err(error) if error.kind() == ErrorKind::Closed) {
            if current.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A connection that is checked out. It goes back as if nobody had used it.
pub(crate) struct Slot<C: Database> {
    connection: Option<PooledConnection<Manager<C>>>,
    aboard: Option<Arc<Aboard>>,
}

impl<C: Database> Slot<C> {
    fn new(mut connection: PooledConnection<Manager<C>>) -> Self {
        let aboard = aboard(&mut *connection);
        Self { connection: Some(connection), aboard }
    }

    /// Puts another connection in its place, and returns the one that was there.
    fn replace(&mut self, mut connection: C) -> C {
        let Some(place) = &mut self.connection else { return connection };
        let new = aboard(&mut connection);
        let old = std::mem::replace(&mut self.aboard, new);
        if let (Some(new), Some(old)) = (&self.aboard, old) {
            new.set_used(old.used());
        }
        // What somebody noted about the old session is not true of the new one.
        PooledConnection::extensions_mut(place).clear();
        std::mem::replace(&mut **place, connection)
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut C) -> QueryResult<T>) -> QueryResult<T> {
        match &mut self.connection {
            Some(connection) => work(connection),
            None => Err(diesel::result::Error::NotFound),
        }
    }
}

impl<C: Database> Drop for Slot<C> {
    fn drop(&mut self) {
        sweeping(|| drop(self.connection.take()));
    }
}

async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|why| configuration(format!("a call of the pool's rotation: {why}")))
}

/// How often the rotation waits for a turn before it pauses.
const TURNS: u32 = 16;
const LONGEST_TURN: Duration = Duration::from_millis(50);
