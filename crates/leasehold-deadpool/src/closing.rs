//! When a pool is over.

use std::time::Duration;

use deadpool::managed::{self, WeakPool};
use leasehold_core::{clock::sleep_until, in_place::InForce};

/// Waits until the pool is closed, or its last handle has gone. deadpool tells neither; but both close its connections,
/// and the last one's end is heard. A pool that had none is looked at now and then.
pub(crate) async fn closed<M: managed::Manager>(pool: &WeakPool<M>, in_force: &InForce) {
    while_in_use(in_force, || pool.upgrade().is_some_and(|pool| !pool.is_closed())).await;
}

/// Waits until something is not in use any more that ends when its last connection does, or without one.
pub(crate) async fn while_in_use(in_force: &InForce, is_in_use: impl Fn() -> bool) {
    let clock = in_force.clock();
    while is_in_use() {
        tokio::select! {
            () = in_force.emptied() => {}
            () = sleep_until(clock, clock.now() + LOOK_EVERY) => {}
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
