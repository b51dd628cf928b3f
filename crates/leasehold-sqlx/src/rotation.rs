//! Puts credentials into use in a pool, and lets old ones go.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Issued, Party, Result, Retired, Rotate, clock::sleep_until, drive,
};
use sqlx::{Pool, pool::PoolConnection};
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, warn};

use crate::{
    builder::Stragglers,
    canary::Canary,
    database::{Database, Options},
    error,
    gate::{Gate, InForce},
    handshakes::{GLANCE, Handshakes, Look},
    session::{self, Role, Session},
    sweep::Retirement,
};

/// What one pool's task holds. It holds the pool too: sqlx has no weaker handle that could change its options, so the
/// pool lives until it is closed.
pub(crate) struct Rotation<D: Database> {
    pub(crate) pool: Pool<D>,
    pub(crate) base: Arc<Options<D>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) current: Current<Credentials>,
    pub(crate) canary: Canary<D>,
    /// Held by the one sweep step that is under way.
    pub(crate) sweeping: Arc<Mutex<()>>,
    pub(crate) settings: Settings,
}

/// What the builder was told beside the pool's options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) canary_interval: Option<Duration>,
    pub(crate) stragglers: Stragglers,
    pub(crate) prove_with: Option<&'static str>,
    /// The longest that a handshake of our own, or an adoption, may take.
    pub(crate) handshake: Duration,
}

/// A session that proved credentials, and what had to make room for it.
pub(crate) struct Proof<D: Database> {
    session: Session<D>,
    /// The slot of the pool's connection that was ended. Held until the proof is over, or the pool would open another
    /// connection where there is room for one only.
    displaced: Option<PoolConnection<D>>,
}

impl<D: Database> Rotation<D> {
    /// Runs until the pool is closed.
    pub(crate) async fn run(self, first: Arc<Issued<Credentials>>) {
        let (pool, gate) = (self.pool.clone(), Arc::clone(&self.gate));
        self.current
            .count_connections_with(move || gate.census(usize::try_from(pool.size()).unwrap_or(usize::MAX)));
        // Both are dropped when this is over: half-way, they may hold a connection of the pool, or the canary.
        tokio::select! {
            () = self.pool.close_event() => {}
            () = drive(self.current.clone(), first, &self) => {}
            () = self.watch() => {}
            () = self.watch_handshakes() => {}
        }
        // The gate still holds the credentials, and a lease is revoked when nobody does: so only after the last
        // connection has gone.
        self.pool.close().await;
        self.canary.stop_counting().await;
        self.canary.close().await;
        debug!(secret = self.current.name(), "the pool is closed; its rotation ends");
    }

    /// Asks now and then whether the database still knows the user in force.
    async fn watch(&self) {
        let Some(every) = self.settings.canary_interval else { return std::future::pending().await };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if let Some((in_force, Err(error))) = self.canary.ask(&self.gate).await {
                self.suspect(&in_force, &error);
            }
        }
    }

    /// Where the server replaces the password of a user, only a handshake shows it, and sqlx tells how one went to nobody
    /// but the caller who waits for it. So where the pool's own tell nothing, we try one.
    async fn watch_handshakes(&self) {
        let Some(every) = self.settings.canary_interval else { return std::future::pending().await };
        let clock = self.current.clock();
        let mut handshakes = Handshakes::new(every, self.look(), clock.now());
        loop {
            sleep_until(&**clock, clock.now() + GLANCE).await;
            let may_be_refused =
                self.gate.in_force().is_some_and(|in_force| may_change_its_password(&in_force));
            if !handshakes.is_one_due(self.look(), clock.now()) || !may_be_refused {
                continue;
            }
            match self.canary.log_in(&self.gate).await {
                Some((in_force, Err(error))) => {
                    self.suspect(&in_force, &error);
                    handshakes.failed(clock.now());
                }
                Some((_, Ok(()))) | None => handshakes.succeeded(self.look(), clock.now()),
            }
        }
    }

    fn look(&self) -> Look {
        let opened = self.gate.opened();
        let size = self.pool.size();
        let is_short = self.pool.num_idle() == 0 && size < self.pool.options().get_max_connections();
        Look { opened, size: usize::try_from(size).unwrap_or(usize::MAX), is_short }
    }

    /// Tells the keeper if an error says that the credentials in force are refused.
    pub(crate) fn suspect(&self, in_force: &InForce, error: &sqlx::Error) {
        let error = error::translate::<D>(&self.base, in_force.issued.secret(), error);
        let generation = in_force.issued.generation();
        if error.kind() == ErrorKind::CredentialsRefused {
            warn!(secret = self.current.name(), %generation, %error, "the database refuses the credentials in force");
            self.current.reject(generation, error.kind());
        } else {
            debug!(secret = self.current.name(), %generation, %error, "the database does not answer");
        }
    }

    /// Opens a session with these credentials, making room for it if the server is full.
    pub(crate) async fn prove(&self, credentials: &Credentials) -> Result<Proof<D>, sqlx::Error> {
        let proving = async {
            self.canary.stop_counting().await;
            let full = match self.open(credentials).await {
                Ok(session) => return Ok(Proof { session, displaced: None }),
                Err(error) if error::is_full(&error) => error,
                Err(error) => return Err(error),
            };
            if self.canary.close().await {
                match self.open_soon(credentials).await {
                    Err(error) if error::is_full(&error) => {}
                    answer => return answer.map(|session| Proof { session, displaced: None }),
                }
            }
            let Some(mut displaced) = self.pool.try_acquire() else { return Err(full) };
            // Ended by the server, so that the pool does not know that it has room for another.
            session::end_own::<D>(&mut displaced, D::dialect(&self.base)).await;
            match self.open_soon(credentials).await {
                Ok(session) => Ok(Proof { session, displaced: Some(displaced) }),
                Err(error) => {
                    let _ = displaced.close().await;
                    Err(error)
                }
            }
        };
        timeout(self.settings.handshake, proving).await.unwrap_or_else(|_| Err(error::timed_out()))
    }

    async fn open(&self, credentials: &Credentials) -> Result<Session<D>, sqlx::Error> {
        let Settings { prove_with, handshake, .. } = self.settings;
        session::prove::<D>(&self.base, credentials, prove_with, handshake).await
    }

    /// The server takes a moment to notice that a connection has gone.
    async fn open_soon(&self, credentials: &Credentials) -> Result<Session<D>, sqlx::Error> {
        let clock = self.current.clock();
        for wait in [10, 30, 100, 300] {
            sleep_until(&**clock, clock.now() + Duration::from_millis(wait)).await;
            match self.open(credentials).await {
                Err(error) if error::is_full(&error) => {}
                answer => return answer,
            }
        }
        self.open(credentials).await
    }

    /// Keeps the session of a proof as the canary, if `allowed` and where there is room for one, and gives back what it
    /// displaced.
    pub(crate) async fn settle(&self, proof: Proof<D>, in_force: &Issued<Credentials>, allowed: bool) {
        let Proof { session, displaced } = proof;
        let max_connections = self.pool.options().get_max_connections();
        let allowed = allowed && displaced.is_none() && has_room(session.role, max_connections);
        self.canary.keep(session, in_force.generation(), allowed, &self.gate).await;
        if let Some(displaced) = displaced {
            // The pool may use the place at once.
            self.let_the_server_notice().await;
            let _ = displaced.close().await;
        }
    }

    /// What was closed is a session for a moment longer.
    async fn let_the_server_notice(&self) {
        let clock = self.current.clock();
        sleep_until(&**clock, clock.now() + Duration::from_millis(30)).await;
    }
}

/// A user that is leased is dropped, and keeps its password until then.
fn may_change_its_password(in_force: &InForce) -> bool {
    in_force.issued.lease().id().is_empty()
}

/// Whether the user may have a connection beside those of the pool.
pub(crate) fn has_room(role: Option<Role>, max_connections: u32) -> bool {
    role.and_then(|role| role.limit).is_none_or(|limit| limit > max_connections)
}

#[async_trait]
impl<D: Database> Rotate for Rotation<D> {
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()> {
        let credentials = next.secret();
        let proof = self.prove(credentials).await.map_err(|error| match error::is_full(&error) {
            true => {
                let waits = "the server has no room for a connection with the new credentials; \
                             adoption waits until one of the pool's is idle, to close it";
                Error::new(ErrorKind::DatabaseUnavailable, Party::Database, waits)
            }
            false => error::translate::<D>(&self.base, credentials, &error),
        })?;
        let tells_identity = proof.session.user == credentials.username();
        if !tells_identity {
            debug!(
                username = credentials.username(),
                logged_in = proof.session.user,
                "a proxy logs in for us; old sessions cannot be told from new ones, nor counted"
            );
        }
        let role = proof.session.role.and_then(|role| role.number);
        let options = D::with(&self.base, credentials);
        let in_force = InForce { issued: Arc::clone(next), role };
        self.gate.switch(in_force, tells_identity, || self.pool.set_connect_options(options));
        self.settle(proof, next, true).await;
        Ok(())
    }

    async fn retire(&self, old: &Arc<Issued<Credentials>>) -> Retired {
        let generation = old.generation();
        let remaining = match (self.gate.superseded(generation), self.gate.in_force()) {
            (Some(superseded), Some(in_force))
                if superseded.issued.secret().username() != in_force.issued.secret().username() =>
            {
                Retirement::new(self, superseded).run().await
            }
            // The user is in force: its sessions have nothing to fear.
            _ => Some(0),
        };
        if self.canary.stop_counting().await {
            // The user is dropped next.
            self.let_the_server_notice().await;
        }
        if self.settings.canary_interval.is_none() {
            self.canary.close().await;
        }
        // Last: when this is dropped before, it is asked again.
        self.gate.retired(generation);
        Retired { remaining }
    }
}

impl<D: Database> Drop for Rotation<D> {
    fn drop(&mut self) {
        // The hooks hold the gate for as long as somebody holds the pool, closed or not.
        self.gate.clear();
    }
}
