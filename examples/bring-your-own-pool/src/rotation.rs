//! All that it takes to rotate the pool: [`Rotate`] for it, and a task that drives it.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, ErrorKind, Issued, Result, Retired, Rotate, async_trait,
    clock::sleep_until,
    drive,
    in_place::{Freshness, InForce},
};
use tokio::time::timeout;
use tokio_postgres::Config;

use crate::pool::Pool;

/// Builds a pool that opens its connections with whatever credentials are in force, until it is closed: the rotation has a
/// handle of its own.
///
/// # Errors
/// If there are no credentials, or the database refuses the first connection.
pub async fn connect(config: Config, size: usize, current: Current<Credentials>) -> Result<Pool> {
    let first = current.get()?;
    let in_force = InForce::new(Arc::clone(&first), Arc::clone(current.clock()));
    let pool = Pool::new(config, size, Arc::clone(&in_force), current.clone());
    drop(pool.get().await?);
    let rotation = Rotation { pool: pool.clone(), current: current.clone() };
    tokio::spawn(async move {
        current.count_connections_with({
            let in_force = Arc::clone(&in_force);
            move || in_force.census()
        });
        tokio::select! {
            () = drive(current.clone(), first, &rotation) => {}
            () = rotation.watch() => {}
        }
        // Whoever holds credentials keeps them from being revoked; a closed pool needs none.
        in_force.close();
    });
    Ok(pool)
}

struct Rotation {
    pool: Pool,
    current: Current<Credentials>,
}

#[async_trait]
impl Rotate for Rotation {
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()> {
        let pool = &self.pool.0;
        let tag = pool.in_force.tag(Arc::clone(next));
        let proof = match pool.open(tag).await {
            Err(full) if full.kind() == ErrorKind::DatabaseFull => {
                // Only a place of our own can make room; without one that is idle this waits, and says so.
                let Some(_place) = pool.place().await else { return Err(waits(&full)) };
                let Some(idle) = pool.take(|_| true) else { return Err(waits(&full)) };
                drop(idle);
                self.pause(Duration::from_millis(100)).await;
                pool.open(pool.in_force.tag(Arc::clone(next))).await?
            }
            answer => answer?,
        };
        pool.in_force.switch(next);
        if let Some(_place) = pool.place().await
            && let Some(_stale) = pool.take(|tag| tag.freshness() != Freshness::Fresh)
        {
            pool.put(proof);
        }
        Ok(())
    }

    async fn retire(&self, old: &Arc<Issued<Credentials>>) -> Retired {
        let (pool, generation) = (&self.pool.0, old.generation());
        loop {
            let remaining = pool.in_force.count(generation);
            if remaining == 0 || self.current.clock().now() >= old.usable_until() {
                return Retired { remaining: Some(remaining) };
            }
            self.exchange_one().await;
            self.pause(Duration::from_millis(20)).await;
        }
    }
}

impl Rotation {
    /// Opens the successor while the old connection lives, so that the pool never shrinks and a failure loses nothing.
    async fn exchange_one(&self) {
        let Some(mut lent) = self.pool.lend(|tag| tag.freshness() != Freshness::Fresh).await else { return };
        let Ok(in_force) = self.pool.0.in_force.get() else { return };
        let tag = || self.pool.0.in_force.tag(Arc::clone(&in_force));
        match self.pool.0.open(tag()).await {
            Ok(fresh) => lent.put_in(fresh),
            // Its own is the only room there is. If this is dropped half-way, because a newer generation has come, the next
            // caller opens another in the place.
            Err(error) if error.kind() == ErrorKind::DatabaseFull => {
                lent.close();
                self.pause(Duration::from_millis(100)).await;
                if let Ok(fresh) = self.pool.0.open(tag()).await {
                    lent.put_in(fresh);
                }
            }
            Err(_) => {}
        }
    }

    /// Ends when the pool is closed. Now and then it asks the database whether it still knows the user.
    async fn watch(&self) {
        while !self.pool.0.is_closed() {
            self.pause(Duration::from_millis(500)).await;
            let Some(lent) = self.pool.lend(|tag| tag.freshness() == Freshness::Fresh).await else {
                continue;
            };
            let asked = timeout(LONGEST, lent.simple_query("SELECT session_user")).await;
            if let Ok(Err(error)) = asked
                && error.as_db_error().is_some_and(|refusal| {
                    let kind = ErrorKind::of_sqlstate(refusal.code().code(), refusal.message());
                    kind == ErrorKind::CredentialsRefused
                })
                && let Some(generation) = lent.generation()
            {
                self.current.reject(generation, ErrorKind::CredentialsRefused);
            }
        }
    }

    async fn pause(&self, time: Duration) {
        let clock = self.current.clock();
        sleep_until(&**clock, clock.now() + time).await;
    }
}

/// For a question to the database.
const LONGEST: Duration = Duration::from_secs(5);

fn waits(full: &leasehold_core::Error) -> leasehold_core::Error {
    let message = format!("{}; it waits until a connection is idle", full.message());
    leasehold_core::Error::new(full.kind(), full.party(), message)
}
