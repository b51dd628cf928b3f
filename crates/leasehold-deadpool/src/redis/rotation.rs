//! Puts credentials in force, and waits until every connection has logged in with them.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use deadpool::managed::{Object, Pool, WeakPool};
use deadpool_redis::{Manager, redis::aio::MultiplexedConnection};
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, EventKind, Issued, Result, Retired, Rotate,
    clock::{Moment, sleep_until},
    drive,
    in_place::{Settings, answered_within, suspect},
};
use tokio::sync::Mutex;
use tracing::debug;

use super::{
    login::{Server, log_in_again},
    logins::Logins,
};
use crate::{
    closing::{closed, while_in_use},
    managed::AT_ONCE,
};

pub(super) struct Rotation {
    users: Users,
    server: Server,
    logins: Logins,
    current: Current<Credentials>,
    settings: Settings,
    /// So that no login of ours, with what was in force before, comes after a connection's own with what is now.
    switching: Mutex<()>,
    /// Since when what is in force is, in nanoseconds of the clock, or zero: a connection that was opened later has never to
    /// log in again.
    switched: AtomicU64,
}

/// Whose connections log in.
pub(super) enum Users {
    Pool(WeakPool<Manager>),
    /// Those of whoever has the provider, or had.
    Others(Weak<()>),
}

impl Rotation {
    pub(super) fn new(
        users: Users,
        server: Server,
        logins: Logins,
        current: Current<Credentials>,
        settings: Settings,
    ) -> Self {
        Self {
            users,
            server,
            logins,
            current,
            settings,
            switching: Mutex::new(()),
            switched: AtomicU64::new(0),
        }
    }

    /// Proves what is in force, and rotates it from now on.
    pub(super) async fn start(self) -> Result<()> {
        let first = self.logins.in_force().get()?;
        let proved = self.prove(&first).await;
        match &proved {
            Ok(()) => drop(tokio::spawn(self.run())),
            Err(error) if error.kind() == ErrorKind::CredentialsRefused => {
                self.current.reject(first.generation(), error.kind());
            }
            Err(_) => {}
        }
        proved
    }

    /// Runs until the pool is closed, or nobody has it any more.
    pub(super) async fn run(self) {
        let in_force = self.logins.in_force();
        let Ok(first) = in_force.get() else { return };
        let census = Arc::clone(in_force);
        self.current.count_connections_with(move || census.census());
        tokio::select! {
            () = self.unused() => {}
            () = drive(self.current.clone(), first, &self) => {}
            () = self.ask_now_and_then() => {}
        }
        self.logins.close();
        debug!(secret = self.current.name(), "nobody uses it any more; the rotation ends");
    }

    async fn unused(&self) {
        let in_force = self.logins.in_force();
        match &self.users {
            Users::Pool(pool) => closed(pool, in_force).await,
            Users::Others(provider) => {
                let is_in_use = || provider.strong_count() > 0 || self.logins.following() > 0;
                while_in_use(in_force, is_in_use).await;
            }
        }
    }

    fn pool(&self) -> Option<Pool<Manager>> {
        match &self.users {
            Users::Pool(pool) => pool.upgrade(),
            Users::Others(_) => None,
        }
    }

    /// Proves credentials by a connection beside the pool; where there is no room for it, on one that is idle.
    async fn prove(&self, next: &Issued<Credentials>) -> Result<()> {
        let mut beside = match self.bounded(self.server.log_in(next.secret())).await {
            Err(error) if error.kind() == ErrorKind::DatabaseFull => {
                return self.prove_on_an_idle_one(next, &error).await;
            }
            opened => opened?,
        };
        self.prove_rights(&mut beside, next).await
    }

    async fn prove_on_an_idle_one(&self, next: &Issued<Credentials>, full: &Error) -> Result<()> {
        let Some(mut idle) = self.idle().await else {
            let message = match self.users {
                Users::Pool(_) => {
                    "adoption waits until one of the pool's connections is idle, to log in on it"
                }
                Users::Others(_) => "adoption waits until it has room for one connection more",
            };
            let message = format!("{}; {message}", full.message());
            return Err(Error::new(full.kind(), full.party(), message));
        };
        let proved = match self.bounded(log_in_again(&mut idle, next.secret())).await {
            Err(refused) if refused.kind() == ErrorKind::CredentialsRefused => return Err(refused),
            Err(error) => Err(error),
            Ok(()) => self.prove_rights(&mut idle, next).await,
        };
        if proved.is_err() {
            // It may be logged in as somebody whom the pool does not adopt.
            drop(Object::take(idle));
        }
        proved
    }

    async fn prove_rights(
        &self,
        connection: &mut MultiplexedConnection,
        next: &Issued<Credentials>,
    ) -> Result<()> {
        let checked = self.bounded(self.server.check(connection, next.secret())).await;
        checked.map_err(|error| match error.kind() {
            // Another user of the same role can do no more.
            ErrorKind::CredentialsRefused => {
                let lacks = "the role lacks what the pool needs, `+@connection +unwatch`";
                let message = format!("{lacks}: {}", error.message());
                Error::new(ErrorKind::Configuration, error.party(), message)
            }
            _ => error,
        })
    }

    async fn ask_now_and_then(&self) {
        let Some(every) = self.settings.ask_every else { return std::future::pending().await };
        let clock = self.current.clock();
        loop {
            sleep_until(&**clock, clock.now() + every).await;
            let unchanged = self.switching.lock().await;
            let Ok(in_force) = self.logins.in_force().get() else { return };
            let answer = self.ask(&in_force).await;
            drop(unchanged);
            let generation = in_force.generation();
            match answer {
                Err(error) => suspect(&self.current, generation, &error),
                // Not while the pool could open no other in its place.
                Ok(()) => self.evict_one_that_does_not_follow(),
            }
        }
    }

    /// Logs in once more: an open connection shows neither that its user is disabled nor that the password is another. Redis
    /// closes those of a user who is deleted, and then nothing is idle.
    async fn ask(&self, in_force: &Issued<Credentials>) -> Result<()> {
        if let Some(mut idle) = self.idle().await {
            match self.bounded(log_in_again(&mut idle, in_force.secret())).await {
                Err(error) if error.kind() != ErrorKind::CredentialsRefused => drop(Object::take(idle)),
                answer => return answer,
            }
        }
        let mut beside = self.bounded(self.server.log_in(in_force.secret())).await?;
        self.bounded(self.server.check(&mut beside, in_force.secret())).await
    }

    /// An idle connection that still works. Those that do not are closed on the way.
    async fn idle(&self) -> Option<Object<Manager>> {
        let pool = self.pool()?;
        match pool.status().available {
            0 => None,
            _ => pool.timeout_get(&AT_ONCE).await.ok(),
        }
    }

    /// How many connections of the pool have failed to log in again, which redis does not try twice.
    fn not_following(&self) -> usize {
        let connections = self.pool().map_or(0, |pool| pool.status().size);
        connections.saturating_sub(self.logins.following())
    }

    /// Which of them that is cannot be told, because a role may lack the right to `ACL WHOAMI`. The oldest is the
    /// likeliest, and the pool opens another; one that is younger than what is in force it cannot be, so that nothing
    /// healthy is evicted twice.
    fn evict_one_that_does_not_follow(&self) {
        let Some(pool) = self.pool().filter(|_| self.not_following() > 0) else { return };
        let switched = match self.switched.load(Ordering::Relaxed) {
            0 => return,
            nanos => Moment::from_nanos(nanos),
        };
        let since = switched.until(self.current.clock().now());
        let mut oldest = None;
        pool.retain(|_, metrics| {
            if metrics.age() > since {
                oldest = Some(oldest.map_or(metrics.created, |oldest| metrics.created.min(oldest)));
            }
            true
        });
        if oldest.is_none() {
            return;
        }
        let evicted = pool.retain(|_, metrics| Some(metrics.created) != oldest);
        debug!(
            secret = self.current.name(),
            evicted = evicted.removed.len(),
            "a connection did not log in again"
        );
    }

    async fn bounded<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        answered_within(&**self.current.clock(), self.settings.handshake, request).await
    }
}

#[async_trait]
impl Rotate for Rotation {
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()> {
        let _nobody_asks = self.switching.lock().await;
        self.prove(next).await?;
        self.logins.in_force().switch(next);
        self.switched.store(self.current.clock().now().as_nanos(), Ordering::Relaxed);
        Ok(())
    }

    async fn retire(&self, old: &Arc<Issued<Credentials>>) -> Retired {
        let (generation, clock) = (old.generation(), self.current.clock());
        let (mut reported, mut evict_at) = (None, clock.now());
        loop {
            let remaining = self.logins.in_force().count(generation);
            let done = remaining == 0 && !self.logins.in_handshake(old) && self.not_following() == 0;
            if done || clock.now() >= old.usable_until() {
                return Retired { remaining: Some(remaining) };
            }
            if reported.replace(remaining) != Some(remaining) {
                self.current.report(generation, EventKind::Retiring { remaining });
            }
            if remaining == 0 && clock.now() >= evict_at {
                self.evict_one_that_does_not_follow();
                // Whoever gets its place waits for a handshake.
                evict_at = clock.now() + BETWEEN_EVICTIONS;
            }
            sleep_until(&**clock, (clock.now() + PACE).min(old.usable_until())).await;
        }
    }
}

const PACE: Duration = Duration::from_millis(20);
const BETWEEN_EVICTIONS: Duration = Duration::from_millis(500);
