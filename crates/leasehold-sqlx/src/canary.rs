//! The connection that proved the credentials, kept to notice their end and to count sessions.

use std::{future::Future, time::Duration};

use leasehold_core::Generation;
use sqlx::{PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    error,
    gate::{Gate, InForce, Superseded},
    session::{self, Census, Session},
};

/// At most one connection outside the pool, of the credentials in force.
#[derive(Default)]
pub(crate) struct Canary {
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    kept: Option<Kept>,
    /// Not where the user may have no more connections than the pool: then they are all the pool's.
    allowed: bool,
}

struct Kept {
    connection: PgConnection,
    generation: Generation,
}

impl Canary {
    /// One that may open a connection when it needs it, but has none yet.
    pub(crate) fn allowed(allowed: bool) -> Self {
        Self { slot: Mutex::new(Slot { kept: None, allowed }) }
    }

    /// Keeps a session that proved its credentials, or closes it; closes the one before it.
    pub(crate) async fn keep(&self, session: Session, generation: Generation, allowed: bool) {
        let mut slot = self.slot.lock().await;
        slot.allowed = allowed;
        let before = slot.kept.replace(Kept { connection: session.connection, generation });
        if let Some(before) = before {
            session::close(before.connection).await;
        }
        if !allowed {
            slot.close().await;
        }
    }

    /// Closes the connection. Returns whether there was one.
    pub(crate) async fn close(&self) -> bool {
        self.slot.lock().await.close().await
    }

    /// Asks the server who we are, on a new connection if need be. Returns whose credentials were asked about.
    ///
    /// # Errors
    /// What the server answered; an error of the connection only if a new one could not be opened either.
    pub(crate) async fn ask(
        &self,
        base: &PgConnectOptions,
        gate: &Gate,
    ) -> Option<(InForce, Result<(), sqlx::Error>)> {
        let mut slot = self.slot.lock().await;
        let in_force = gate.in_force()?;
        if let Some(kept) = &slot.kept
            && kept.generation != in_force.issued.generation()
        {
            // An adoption is about to replace it.
            return None;
        }
        let answer = slot.on_kept(async |connection| session::session_user(connection).await).await;
        let result = match answer {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) if error.as_database_error().is_some() => Err(error),
            Some(Err(_)) | None => slot.reopen(base, &in_force).await,
        };
        Some((in_force, result))
    }

    /// Counts the sessions of superseded credentials; `None` if that is not possible just now.
    pub(crate) async fn census(
        &self,
        base: &PgConnectOptions,
        pool: &PgPool,
        gate: &Gate,
        old: &Superseded,
    ) -> Option<Census> {
        let (username, role) = (old.issued.secret().username(), old.role);
        let mut slot = self.slot.lock().await;
        if slot.kept.is_none() {
            slot.reopen(base, &gate.in_force()?).await.ok()?;
        }
        if slot.allowed {
            let count = slot.on_kept(async |connection| session::census(connection, username, role).await);
            return count.await?.ok();
        }
        // Any connection may count, and one of the pool's is spared for a moment more easily than one is opened.
        let mut connection = pool.try_acquire()?;
        bounded(session::census(&mut connection, username, role)).await.ok()
    }
}

impl Slot {
    /// Asks on the connection that is kept, if one is. It stays only if it answered: whoever is interrupted here must
    /// not leave a connection with half an answer.
    async fn on_kept<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Option<Result<T, sqlx::Error>> {
        let mut kept = self.kept.take()?;
        let answer = bounded(ask(&mut kept.connection)).await;
        if !answer.as_ref().is_err_and(|error| error.as_database_error().is_none()) {
            self.kept = Some(kept);
        }
        Some(answer)
    }

    async fn reopen(&mut self, base: &PgConnectOptions, in_force: &InForce) -> Result<(), sqlx::Error> {
        if self.allowed {
            let session = session::open(base, in_force.issued.secret(), ANSWER).await?;
            let generation = in_force.issued.generation();
            self.kept = Some(Kept { connection: session.connection, generation });
        }
        Ok(())
    }

    async fn close(&mut self) -> bool {
        match self.kept.take() {
            Some(kept) => {
                session::close(kept.connection).await;
                true
            }
            None => false,
        }
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(error::timed_out()))
}

const ANSWER: Duration = Duration::from_secs(5);
