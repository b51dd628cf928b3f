//! A database, a keeper that publishes what it is told, and a load.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use leasehold_core::{
    Credentials, Event, EventKind, Generation, Grant, Lease,
    clock::{Clock, SystemClock},
    publish::{self, Channel},
};
use tokio::{
    sync::broadcast,
    time::{Instant, interval},
};

use super::{
    Adapter, Failure, Pool,
    database::{Database, Server},
    keeper::retired,
};
use crate::load::Load;

/// Where a pool connects to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Target {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: String,
}

/// What a case plays on: a server, and a keeper of credentials in the case's own hands.
#[derive(Debug)]
pub(super) struct Stage {
    database: Database,
    channel: Channel<Credentials>,
    events: Arc<Mutex<Vec<Event>>>,
    gone: Vec<Generation>,
}

impl Stage {
    pub(super) async fn set(adapter: &dyn Adapter) -> Result<Self, Failure> {
        let database = Database::alone(adapter.server()).await?;
        let channel = publish::channel("database/creds/conformance", Arc::new(SystemClock));
        let events = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(record(channel.current.events(), Arc::clone(&events)));
        Ok(Self { database, channel, events, gone: Vec::new() })
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    pub(super) fn who(&self) -> &'static str {
        self.database.server.who()
    }

    pub(super) fn read(&self) -> &'static str {
        self.database.server.read()
    }

    pub(super) fn load(&self, pool: &Arc<dyn Pool>, rate: u32) -> Load {
        load(pool, self.database.server, rate)
    }

    /// Makes a user who may read, and returns its name.
    pub(super) async fn user(&self, name: &str, password: &str) -> Result<String, Failure> {
        let name = format!("v-{name}");
        self.database.create(&name, password, None).await?;
        Ok(name)
    }

    /// Publishes credentials that end after `ttl`.
    pub(super) fn publish(&mut self, user: &str, password: &str, ttl: Duration) -> Generation {
        let lease = Lease::new("lease", ttl, true);
        let grant = Grant::new(Credentials::new(user, password.to_owned()), lease);
        self.channel.publisher.publish(grant, SystemClock.now());
        self.channel.current.get().map_or(Generation::new(0), |issued| issued.generation())
    }

    pub(super) async fn build(&self, adapter: &dyn Adapter, size: usize) -> Result<Arc<dyn Pool>, Failure> {
        self.build_at(adapter, &self.database.target()?, size).await
    }

    pub(super) async fn build_at(
        &self,
        adapter: &dyn Adapter,
        target: &Target,
        size: usize,
    ) -> Result<Arc<dyn Pool>, Failure> {
        let pool = adapter.build(target, size, self.channel.current.clone()).await;
        pool.map(Arc::from).map_err(|error| Failure(format!("{} cannot be built: {error}", adapter.name())))
    }

    pub(super) fn channel(&mut self) -> &mut Channel<Credentials> {
        &mut self.channel
    }

    /// Waits for an event of this generation.
    pub(super) async fn event<T>(
        &self,
        what: &str,
        of: Generation,
        pick: impl Fn(&EventKind) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut picked = None;
        until(&format!("generation {of}: {what}"), PATIENCE, || {
            let log = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            picked = log.iter().filter(|event| event.generation == of).find_map(|event| pick(&event.kind));
            let found = picked.is_some();
            async move { Ok(found) }
        })
        .await?;
        picked.ok_or_else(|| Failure(what.to_owned()))
    }

    pub(super) async fn adopted(&self, generation: Generation) -> Result<(), Failure> {
        self.event("adopted", generation, |kind| matches!(kind, EventKind::Adopted).then_some(())).await
    }

    /// Returns how many connections remained, if the pool can count them.
    pub(super) async fn retired(&self, generation: Generation) -> Result<Option<usize>, Failure> {
        self.event("retired", generation, retired).await
    }

    /// Waits until the keeper is told that this generation is refused.
    pub(super) async fn rejected(
        &mut self,
        why: &str,
        generation: Generation,
        within: Duration,
    ) -> Result<(), Failure> {
        until(&format!("{why}: the keeper is told"), within, || {
            let mut told = false;
            while let Some(rejection) = self.channel.rejections.try_recv() {
                told |= rejection.generation == generation;
            }
            async move { Ok(told) }
        })
        .await
        .map(drop)
    }

    /// Whether the last user of these credentials has let go of them.
    pub(super) fn farewell(&mut self, of: Generation) -> bool {
        while let Some(record) = self.channel.farewells.try_recv() {
            self.gone.push(record.generation());
        }
        self.gone.contains(&of)
    }

    /// How often something happened.
    pub(super) fn count(&self, what: impl Fn(&EventKind) -> bool) -> usize {
        let log = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|event| what(&event.kind)).count()
    }

    /// Waits until no session of a user is left: a client's goodbye takes a moment to arrive.
    pub(super) async fn has_left(&self, user: &str) -> Result<(), Failure> {
        until(&format!("no session of {user} is left"), Duration::from_secs(1), || async {
            Ok(self.sessions(user).await? == 0)
        })
        .await
        .map(drop)
    }

    pub(super) async fn sessions(&self, user: &str) -> Result<usize, Failure> {
        self.database.sessions_of(user).await
    }
}

async fn record(mut from: broadcast::Receiver<Event>, into: Arc<Mutex<Vec<Event>>>) {
    loop {
        match from.recv().await {
            Ok(event) => into.lock().unwrap_or_else(PoisonError::into_inner).push(event),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Has a pool answer queries that a dropped user cannot, at a steady rate.
pub(super) fn load(pool: &Arc<dyn Pool>, server: Server, rate: u32) -> Load {
    let pool = Arc::clone(pool);
    Load::start(rate, move || {
        let pool = Arc::clone(&pool);
        async move { pool.acquire().await?.query(server.read()).await.map(drop) }
    })
}

/// Opens that many connections, and gives them back.
pub(super) async fn fill(pool: &Arc<dyn Pool>, count: usize) -> Result<(), Failure> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(pool.acquire().await.map_err(Failure)?);
    }
    Ok(())
}

/// Waits until `condition` holds.
pub(super) async fn until<F>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<Duration, Failure>
where
    F: Future<Output = Result<bool, Failure>>,
{
    let began = Instant::now();
    let mut look = interval(Duration::from_millis(25));
    loop {
        look.tick().await;
        if condition().await? {
            return Ok(began.elapsed());
        }
        if began.elapsed() > bound {
            return Err(Failure(format!("waited {bound:?} in vain: {what}")));
        }
    }
}

/// Lets time pass.
pub(super) async fn let_pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
