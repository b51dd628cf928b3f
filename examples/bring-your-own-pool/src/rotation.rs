//! All that it takes to rotate the pool: [`Rotate`] for it, and a task that drives it.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, ErrorKind, Issued, Result, Retired, Rotate, async_trait,
    clock::sleep_until,
    drive,
    in_place::{Freshness, InForce},
};
use tokio_postgres::Config;

use crate::pool::Pool;

/// Builds a pool that opens its connections with whatever credentials are in force.
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
            self.exchange_one(old).await;
            self.pause(Duration::from_millis(20)).await;
        }
    }
}

impl Rotation {
    /// Opens the successor while the old connection lives, so that the pool never shrinks and a failure loses nothing.
    async fn exchange_one(&self, old: &Issued<Credentials>) {
        let pool = &self.pool.0;
        let Some(_place) = pool.place().await else { return };
        let Some(stale) = pool.take(|tag| tag.generation() == old.generation()) else { return };
        let Ok(in_force) = pool.in_force.get() else { return };
        match pool.open(pool.in_force.tag(in_force)).await {
            Ok(fresh) => pool.put(fresh),
            Err(error) if error.kind() == ErrorKind::DatabaseFull => drop(stale),
            Err(_) => pool.put(stale),
        }
    }

    /// Ends when the pool is closed. Now and then it asks the database whether it still knows the user.
    async fn watch(&self) {
        let pool = &self.pool.0;
        while !pool.is_closed() {
            self.pause(Duration::from_millis(500)).await;
            let Some(_place) = pool.place().await else { continue };
            let Some(connection) = pool.take(|tag| tag.freshness() == Freshness::Fresh) else { continue };
            if let Err(error) = connection.client.simple_query("SELECT session_user").await
                && error.code().is_some_and(|state| {
                    ErrorKind::of_sqlstate(state.code()) == ErrorKind::CredentialsRefused
                })
            {
                self.current.reject(connection.tag.generation(), ErrorKind::CredentialsRefused);
            }
            pool.put(connection);
        }
    }

    async fn pause(&self, time: Duration) {
        let clock = self.current.clock();
        sleep_until(&**clock, clock.now() + time).await;
    }
}

fn waits(full: &leasehold_core::Error) -> leasehold_core::Error {
    let message = format!("{}; it waits until a connection is idle", full.message());
    leasehold_core::Error::new(full.kind(), full.party(), message)
}
