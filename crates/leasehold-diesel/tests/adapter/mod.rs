//! A pool of any of diesel's connections, as the conformance suite sees it.

use std::{fmt::Display, time::Duration};

use diesel::{
    QueryResult,
    r2d2::{Pool as R2d2, PooledConnection},
};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_diesel::{Builder, Database, Manager};
use leasehold_testbed::conformance::{Connection, Pool};
use tokio::task::{JoinHandle, spawn_blocking};

/// Runs a statement that answers one text.
pub(crate) type Query<C> = fn(&mut C, &'static str) -> QueryResult<String>;

/// Builds a pool of at most `size` connections.
pub(crate) async fn build<C: Database>(
    builder: Builder<C>,
    size: usize,
    min_idle: Option<u32>,
    current: Current<Credentials>,
    query: Query<C>,
) -> Result<Box<dyn Pool>, String> {
    let size = u32::try_from(size).map_err(shown)?;
    let builder = builder
        .pool(move |pool| pool.max_size(size).min_idle(min_idle).connection_timeout(Duration::from_secs(15)));
    let runtime = tokio::runtime::Handle::current();
    let built =
        spawn_blocking(move || builder.connect_blocking(current, move |rotation| runtime.spawn(rotation)));
    let (pool, rotation) = built.await.map_err(shown)?.map_err(shown)?;
    Ok(Box::new(UnderTest { pool, rotation, query }))
}

struct UnderTest<C: Database> {
    pool: R2d2<Manager<C>>,
    rotation: JoinHandle<()>,
    query: Query<C>,
}

#[async_trait]
impl<C: Database> Pool for UnderTest<C> {
    async fn acquire(&self) -> Result<Box<dyn Connection>, String> {
        let (pool, query) = (self.pool.clone(), self.query);
        let lent = spawn_blocking(move || pool.get().map_err(shown)).await.map_err(shown)??;
        Ok(Box::new(Borrowed { lent: Some(Box::new(lent)), query }))
    }

    async fn close(&self) {
        // r2d2 has no close: the pool ends with its last handle, of which the rotation has one.
        self.rotation.abort();
    }

    fn debug(&self) -> String {
        format!("{:?}", self.pool)
    }
}

struct Borrowed<C: Database> {
    lent: Option<Box<PooledConnection<Manager<C>>>>,
    query: Query<C>,
}

#[async_trait]
impl<C: Database> Connection for Borrowed<C> {
    async fn query(&mut self, text: &'static str) -> Result<String, String> {
        let mut lent = self.lent.take().ok_or("a query before was cancelled")?;
        let query = self.query;
        let asked = spawn_blocking(move || {
            let answer = query(&mut lent, text).map_err(shown);
            (lent, answer)
        });
        let (lent, answer) = asked.await.map_err(shown)?;
        self.lent = Some(lent);
        answer
    }
}

pub(crate) fn shown(error: impl Display) -> String {
    error.to_string()
}
