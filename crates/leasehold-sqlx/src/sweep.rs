//! Replaces the connections of superseded credentials, one at a time, where no caller waits for it.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    EventKind,
    clock::{Moment, sleep_until},
    in_place::hard_phase,
};
use tracing::{debug, warn};

use crate::{
    builder::Stragglers,
    database::Database,
    error,
    gate::Superseded,
    hooks::{Met, SWEEP, Sweep},
    rotation::Rotation,
};

/// The retirement of one generation. Nothing is lost when it is dropped: a step that is under way goes on by itself.
pub(crate) struct Retirement<'a, D: Database> {
    rotation: &'a Rotation<D>,
    old: Superseded,
    reported: Option<usize>,
    /// Steps in a row that found nothing to do.
    quiet: u32,
    /// Steps or proofs in a row that failed.
    failures: u32,
    /// Whether the last failure was for want of room.
    full: bool,
    /// Whether the old user was dropped before its time.
    gone: bool,
    terminated: bool,
}

impl<'a, D: Database> Retirement<'a, D> {
    pub(crate) fn new(rotation: &'a Rotation<D>, old: Superseded) -> Self {
        Self {
            rotation,
            old,
            reported: None,
            quiet: 0,
            failures: 0,
            full: false,
            gone: false,
            terminated: false,
        }
    }

    /// Sweeps until the database counts no session of the old user, or the old credentials have ended. Returns how
    /// many sessions are left, if they can be counted.
    pub(crate) async fn run(mut self) -> Option<usize> {
        loop {
            let remaining = self.count().await;
            if self.is_over(remaining) {
                return remaining;
            }
            if remaining == Some(0) {
                self.pause(RECOUNT).await;
                continue;
            }
            self.report(remaining);
            if self.now() >= hard_phase(&self.old.issued) {
                self.terminate(remaining).await;
            }
            let pace = self.step().await;
            self.pause(pace).await;
        }
    }

    async fn count(&mut self) -> Option<usize> {
        let Rotation { pool, gate, canary, .. } = self.rotation;
        if !gate.tells_identity() {
            return None;
        }
        let census = canary.census(pool, gate, &self.old).await?;
        if !census.exists {
            // Dropped before its time, so nobody should get a session of it: in PostgreSQL each of them fails every
            // query, and in MariaDB it goes on reading and writing.
            gate.end(self.old.issued.generation());
            self.gone = true;
        }
        census.sessions
    }

    /// Whether there is nothing to wait for.
    fn is_over(&self, remaining: Option<usize>) -> bool {
        let until = self.old.issued.usable_until();
        let none_is_left = match remaining {
            // The server does not count a handshake before it has checked the password. If the lease were revoked
            // then, the caller who waits for that connection would be refused.
            Some(count) => count == 0 && self.rotation.gate.replaced_for(&self.old) >= HANDSHAKE,
            // What never ends, or has ended already, and cannot be counted is done after two quiet rounds.
            None => (until == Moment::NEVER || self.gone) && self.quiet > 2 * self.round(),
        };
        none_is_left || self.now() >= until
    }

    fn report(&mut self, remaining: Option<usize>) {
        let Some(remaining) = remaining else { return };
        let generation = self.old.issued.generation();
        self.rotation.gate.counted(generation, remaining);
        if self.reported.replace(remaining) != Some(remaining) {
            self.rotation.current.report(generation, EventKind::Retiring { remaining });
        }
    }

    /// One step; returns how long to wait before the next.
    async fn step(&mut self) -> Duration {
        if self.failures > 0 && !self.is_proved_again().await {
            return self.setback();
        }
        let pool = &self.rotation.pool;
        if pool.num_idle() == 0 && pool.size() < pool.options().get_max_connections() {
            // A check-out would open a connection that nobody needs, and meet none that is old.
            return self.nothing_found();
        }
        let over = sleep_until(&**self.rotation.current.clock(), self.old.issued.usable_until());
        let met = tokio::select! {
            met = self.sweep_one() => met,
            () = over => return Duration::ZERO,
        };
        match met {
            Ok(Met::Stale | Met::Surplus) => {
                (self.quiet, self.failures) = (0, 0);
                PACE
            }
            Ok(Met::Fresh | Met::None) => {
                self.failures = 0;
                self.nothing_found()
            }
            Err(error) => {
                // sqlx has closed the old connection before the new one failed. Another attempt costs another
                // working connection, so there is none before a connection has succeeded outside the pool.
                self.full = error::is_full(&error);
                debug!(%error, "a connection could not be replaced; sweeping stops until one can be opened again");
                self.setback()
            }
        }
    }

    /// Checks one connection out. The hook refuses it if it is stale, and sqlx opens its successor in its place.
    async fn sweep_one(&self) -> Result<Met, sqlx::Error> {
        let turn = Arc::clone(&self.rotation.sweeping).lock_owned().await;
        let sweep = Arc::new(Sweep::new(self.surplus_after()));
        let (pool, seen) = (self.rotation.pool.clone(), Arc::clone(&sweep));
        // Spawned, because a check-out that is dropped half-way loses its connection.
        let step = tokio::spawn(SWEEP.scope(sweep, async move {
            let _turn = turn;
            let connection = pool.acquire().await?;
            if seen.met() == Met::Surplus {
                let _ = connection.close().await;
            }
            Ok(seen.met())
        }));
        step.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// How long a stale connection must have been idle for the pool to be better off without it. A replacement looks
    /// just used, so a pool that rotates more often than its idle timeout would never shrink. Not "since before the
    /// switch": a busy pool, too, has connections that wait for their turn at any moment.
    fn surplus_after(&self) -> Option<Duration> {
        let pool = &self.rotation.pool;
        let options = pool.options();
        let timeout = options.get_idle_timeout()?;
        let limit = timeout.min((self.old.reign() / 2).max(SURPLUS_FLOOR));
        (pool.size() > options.get_min_connections()).then_some(limit)
    }

    async fn is_proved_again(&self) -> bool {
        let Some(in_force) = self.rotation.gate.in_force() else { return false };
        match self.rotation.prove(in_force.issued.secret()).await {
            Ok(proof) => {
                // What is free now is the pool's, which has lost a place for want of room.
                self.rotation.settle(proof, &in_force.issued, !self.full).await;
                true
            }
            Err(error) => {
                self.rotation.suspect(&in_force, &error);
                false
            }
        }
    }

    /// Shortly before the end, if so told: ends on the server what the pool's users still hold.
    async fn terminate(&mut self, remaining: Option<usize>) {
        let (Stragglers::Terminate, Some(remaining)) = (self.rotation.settings.stragglers, remaining) else {
            return;
        };
        if std::mem::replace(&mut self.terminated, true) {
            return;
        }
        let generation = self.old.issued.generation();
        match self.rotation.canary.terminate(&self.old).await {
            Ok(ended) => {
                warn!(%generation, ended, "sessions of credentials that end were terminated");
                self.rotation.current.report(generation, EventKind::Terminated { connections: ended });
            }
            Err(error) => warn!(%generation, remaining, %error, "sessions of credentials that end are left"),
        }
    }

    fn nothing_found(&mut self) -> Duration {
        self.quiet = self.quiet.saturating_add(1);
        PACE * (1 << (self.quiet / self.round()).min(5))
    }

    fn setback(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        SETBACK * (1 << self.failures.min(5))
    }

    /// As many check-outs as it takes to meet every connection of a pool that others use too, more or less.
    fn round(&self) -> u32 {
        2 * self.rotation.pool.size().max(1)
    }

    /// Waits, but not past a moment at which something is to be done.
    async fn pause(&self, pace: Duration) {
        let now = self.now();
        let mut until = now + pace;
        for moment in [hard_phase(&self.old.issued), self.old.issued.usable_until()] {
            if moment > now {
                until = until.min(moment);
            }
        }
        sleep_until(&**self.rotation.current.clock(), until).await;
    }

    fn now(&self) -> Moment {
        self.rotation.current.clock().now()
    }
}

/// Between two replacements: a burst of handshakes would be felt by callers.
const PACE: Duration = Duration::from_millis(10);
/// A handshake that began before the switch is over by then, or in bad trouble.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Between two counts when there is nothing to sweep.
const RECOUNT: Duration = Duration::from_millis(100);
/// Half the wait after the first failure.
const SETBACK: Duration = Duration::from_millis(250);
/// In a test or a demo, where a generation reigns for seconds.
const SURPLUS_FLOOR: Duration = Duration::from_secs(1);
