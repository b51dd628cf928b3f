//! The rotation's view of the pool.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use deadpool::managed::{Manager as _, WeakPool};
use deadpool_postgres::{ClientWrapper, Hook, Manager, Metrics, Object};
use tokio::time::timeout;

use leasehold_core::{
    Credentials, Error, ErrorKind, Issued, Party, Result,
    in_place::{self, InForce, Tag},
};

use super::{connect::OPEN_WITH, tags::Tags};
use crate::{
    closing::closed,
    managed::{REFILL, dig, is_saturated, queue},
    refusals::translate,
};

pub(super) struct Slots {
    pub(super) pool: WeakPool<Manager>,
    pub(super) in_force: Arc<InForce>,
    pub(super) tags: Arc<Tags>,
    pub(super) hooks: Arc<Vec<Hook>>,
}

#[async_trait]
impl in_place::Slots for Slots {
    type Connection = ClientWrapper;
    type Slot = Object;

    async fn open(&self, tag: Tag) -> Result<ClientWrapper> {
        let pool = self
            .pool
            .upgrade()
            .ok_or_else(|| Error::new(ErrorKind::Closed, Party::Configuration, "the pool has gone"))?;
        let tag = Arc::new(tag);
        // Through the manager, which alone can enter a connection into its list of statement caches.
        let created = OPEN_WITH.scope(Arc::clone(&tag), pool.manager().create()).await;
        let mut client = created.map_err(|error| translate(tag.issued().secret(), &error))?;
        self.tags.note(&client);
        // deadpool runs hooks for what it opens itself only.
        let metrics = Metrics::default();
        for hook in &*self.hooks {
            let outcome = match hook {
                Hook::Fn(hook) => hook(&mut client, &metrics),
                Hook::AsyncFn(hook) => hook(&mut client, &metrics).await,
            };
            if let Err(error) = outcome {
                pool.manager().detach(&mut client);
                let message = format!("a post_create hook failed: {error}");
                return Err(Error::new(ErrorKind::Unexpected, Party::Configuration, message));
            }
        }
        Ok(client)
    }

    async fn find(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Object> {
        dig(&self.pool.upgrade()?, |client| self.tags.of(client).is_some_and(|tag| wanted(&tag))).await
    }

    fn is_saturated(&self) -> bool {
        self.pool.upgrade().is_some_and(|pool| is_saturated(&pool))
    }

    async fn queue(&self, wanted: &(dyn for<'a> Fn(&'a Tag) -> bool + Sync)) -> Option<Object> {
        queue(&self.pool.upgrade()?, |client| self.tags.of(client).is_some_and(|tag| wanted(&tag))).await
    }

    async fn exchange(&self, mut slot: Object, connection: ClientWrapper) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut old = std::mem::replace(&mut *slot, connection);
        pool.manager().detach(&mut old);
    }

    async fn give_up(&self, slot: Object) {
        drop(Object::take(slot));
    }

    async fn make_room(&self, slot: Object) -> Option<Object> {
        // Ended by the server, so that the pool does not know that it has room for another.
        let end = slot.simple_query("SELECT pg_terminate_backend(pg_backend_pid())");
        let _ = timeout(LONGEST_END, end).await;
        Some(slot)
    }

    async fn close(&self, mut connection: ClientWrapper) {
        if let Some(pool) = self.pool.upgrade() {
            pool.manager().detach(&mut connection);
        }
    }

    async fn refill(&self) {
        if let Some(pool) = self.pool.upgrade() {
            let _ = pool.timeout_get(&REFILL).await;
        }
    }

    async fn ask(&self, slot: &mut Object) -> Result<()> {
        let tag = self.tags.of(slot);
        match (slot.simple_query("SELECT session_user").await, tag) {
            (Err(error), Some(tag)) => Err(translate(tag.issued().secret(), &error)),
            _ => Ok(()),
        }
    }

    async fn terminate(&self, old: &Arc<Issued<Credentials>>) -> Result<usize> {
        let client = self.open(self.in_force.tag(Arc::clone(old))).await?;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE usename = session_user AND pid <> pg_backend_pid()";
        let ended = client.query(sql, &[]).await.map_err(|error| translate(old.secret(), &error));
        self.close(client).await;
        Ok(ended?.len())
    }

    async fn closed(&self) {
        closed(&self.pool, &self.in_force).await;
    }
}

const LONGEST_END: Duration = Duration::from_secs(2);
