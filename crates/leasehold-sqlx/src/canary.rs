//! The sessions beside the pool: one that notices the end of the user in force, and one that counts those of the user
//! before where nobody else sees them.

use std::{future::Future, sync::Arc, time::Duration};

use leasehold_core::Generation;
use sqlx::{Error, Pool};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    database::{Database, Options},
    error,
    gate::{Gate, InForce, Superseded},
    session::{self, Census, Session},
};

/// At most one connection outside the pool of the credentials in force, and one of those before. The second has the
/// room that a proof needs, which takes place when nothing is being counted.
pub(crate) struct Canary<D: Database> {
    base: Arc<Options<D>>,
    slot: Mutex<Slot<D>>,
}

struct Slot<D: Database> {
    kept: Option<Kept<D>>,
    /// Not where the user may have no more connections than the pool: then they are all the pool's.
    allowed: bool,
    counter: Option<Kept<D>>,
}

struct Kept<D: Database> {
    connection: D::Connection,
    generation: Generation,
}

impl<D: Database> Canary<D> {
    /// One that may open a connection when it needs it, but has none yet.
    pub(crate) fn new(base: Arc<Options<D>>, allowed: bool) -> Self {
        let slot = Slot { kept: None, allowed, counter: None };
        Self { base, slot: Mutex::new(slot) }
    }

    /// Keeps a session that proved its credentials, or closes it. The one before it counts from now on, if there is
    /// something that it alone can count; or else is closed.
    pub(crate) async fn keep(&self, session: Session<D>, generation: Generation, allowed: bool, gate: &Gate) {
        let dialect = D::dialect(&self.base);
        let mut slot = self.slot.lock().await;
        slot.allowed = allowed;
        if let Some(mut before) = slot.kept.replace(Kept { connection: session.connection, generation }) {
            let counts = allowed
                && !dialect.sees_others
                && gate.tells_identity()
                && gate.superseded(before.generation).is_some();
            if counts && bounded(session::mark::<D>(&mut before.connection, dialect)).await.is_ok() {
                slot.counter = Some(before);
            } else {
                session::close(before.connection).await;
            }
        }
        if !allowed {
            slot.close().await;
        }
    }

    /// Closes the connection. Returns whether there was one.
    pub(crate) async fn close(&self) -> bool {
        self.slot.lock().await.close().await
    }

    /// Closes what counts sessions. Returns whether there was such a connection.
    pub(crate) async fn stop_counting(&self) -> bool {
        self.slot.lock().await.close_counter().await
    }

    /// Asks the server whether the user is there, on a new connection if need be. Returns whose credentials were asked
    /// about.
    ///
    /// # Errors
    /// What the server answered; an error of the connection only if a new one could not be opened either.
    pub(crate) async fn ask(&self, gate: &Gate) -> Option<(InForce, Result<(), Error>)> {
        let mut slot = self.slot.lock().await;
        let in_force = gate.in_force()?;
        if let Some(kept) = &slot.kept
            && kept.generation != in_force.issued.generation()
        {
            // An adoption is about to replace it.
            return None;
        }
        let dialect = D::dialect(&self.base);
        let answer =
            on_kept(&mut slot.kept, async |connection| session::presence::<D>(connection, dialect).await)
                .await;
        let result = match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) if !error::is_broken(&error) => Err(error),
            Some(Err(_)) | None => slot.reopen(&self.base, gate, &in_force).await,
        };
        Some((in_force, result))
    }

    /// Logs in anew, with what is in force. The session stays, in the place of the one before. `None` where there is no
    /// room for one.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) async fn log_in(&self, gate: &Gate) -> Option<(InForce, Result<(), Error>)> {
        let mut slot = self.slot.lock().await;
        let in_force = gate.in_force()?;
        if !slot.allowed {
            return None;
        }
        // Before: there is room for one.
        slot.close().await;
        let result = slot.reopen(&self.base, gate, &in_force).await;
        Some((in_force, result))
    }

    /// Counts the sessions of superseded credentials; `None` if that is not possible just now.
    pub(crate) async fn census(&self, pool: &Pool<D>, gate: &Gate, old: &Superseded) -> Option<Census> {
        let dialect = D::dialect(&self.base);
        let mut slot = self.slot.lock().await;
        if !dialect.sees_others {
            let count =
                async |connection: &mut D::Connection| session::census::<D>(connection, dialect, old).await;
            return match self.as_old(&mut slot, old, count).await {
                Ok(census) => Some(census),
                Err(error) if error::is_refused(&error) => Some(Census { sessions: None, exists: false }),
                Err(_) => None,
            };
        }
        if slot.kept.is_none() {
            slot.reopen(&self.base, gate, &gate.in_force()?).await.ok()?;
        }
        if slot.allowed {
            let count = on_kept(&mut slot.kept, async |connection| {
                session::census::<D>(connection, dialect, old).await
            });
            return count.await?.ok();
        }
        // Any connection may count, and one of the pool's is spared for a moment more easily than one is opened.
        let mut connection = pool.try_acquire()?;
        bounded(session::census::<D>(&mut connection, dialect, old)).await.ok()
    }

    /// Ends the sessions of superseded credentials, as their user, and returns how many there were.
    pub(crate) async fn terminate(&self, old: &Superseded) -> Result<usize, Error> {
        let dialect = D::dialect(&self.base);
        let mut slot = self.slot.lock().await;
        let terminate =
            async |connection: &mut D::Connection| session::terminate_others::<D>(connection, dialect).await;
        self.as_old(&mut slot, old, terminate).await
    }

    /// Asks on a session of superseded credentials. It stays if there is room, and something that it alone can count.
    async fn as_old<T>(
        &self,
        slot: &mut Slot<D>,
        old: &Superseded,
        ask: impl AsyncFnOnce(&mut D::Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (generation, dialect) = (old.issued.generation(), D::dialect(&self.base));
        if slot.counter.as_ref().is_some_and(|counter| counter.generation != generation) {
            slot.close_counter().await;
        }
        if slot.counter.is_none() {
            let mut session = session::open::<D>(&self.base, old.issued.secret(), ANSWER).await?;
            bounded(session::mark::<D>(&mut session.connection, dialect)).await?;
            slot.counter = Some(Kept { connection: session.connection, generation });
        }
        let answer = on_kept(&mut slot.counter, ask).await;
        if dialect.sees_others || !slot.allowed {
            slot.close_counter().await;
        }
        answer.unwrap_or_else(|| Err(error::timed_out()))
    }
}

impl<D: Database> Slot<D> {
    async fn reopen(&mut self, base: &Options<D>, gate: &Gate, in_force: &InForce) -> Result<(), Error> {
        if self.allowed {
            let session = session::open::<D>(base, in_force.issued.secret(), ANSWER).await?;
            let generation = in_force.issued.generation();
            gate.numbered(generation, session.role.and_then(|role| role.number));
            self.kept = Some(Kept { connection: session.connection, generation });
        }
        Ok(())
    }

    async fn close(&mut self) -> bool {
        close(&mut self.kept).await
    }

    async fn close_counter(&mut self) -> bool {
        close(&mut self.counter).await
    }
}

/// Asks on the connection that is kept, if one is. It stays only if it answered: whoever is interrupted here must not
/// leave a connection with half an answer.
async fn on_kept<D: Database, T>(
    slot: &mut Option<Kept<D>>,
    ask: impl AsyncFnOnce(&mut D::Connection) -> Result<T, Error>,
) -> Option<Result<T, Error>> {
    let mut kept = slot.take()?;
    let answer = bounded(ask(&mut kept.connection)).await;
    if !answer.as_ref().is_err_and(error::is_broken) {
        *slot = Some(kept);
    }
    Some(answer)
}

async fn close<D: Database>(slot: &mut Option<Kept<D>>) -> bool {
    match slot.take() {
        Some(kept) => {
            session::close(kept.connection).await;
            true
        }
        None => false,
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(error::timed_out()))
}

const ANSWER: Duration = Duration::from_secs(5);
