//! What the pool's hooks do before the user's.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use leasehold_core::in_place::Freshness;
use sqlx::pool::{PoolConnectionMetadata, PoolOptions};
use tracing::debug;

use crate::{
    database::{BoxFuture, Database, Dialect, Options},
    error,
    gate::Gate,
    session,
};

pub(crate) type Hook<D, T> = Arc<
    dyn for<'c> Fn(&'c mut <D as sqlx::Database>::Connection, PoolConnectionMetadata) -> BoxFuture<'c, T>
        + Send
        + Sync,
>;

/// The hooks that the user gave.
pub(crate) struct UserHooks<D: Database> {
    pub(crate) after_connect: Option<Hook<D, ()>>,
    pub(crate) before_acquire: Option<Hook<D, bool>>,
    pub(crate) after_release: Option<Hook<D, bool>>,
}

impl<D: Database> Default for UserHooks<D> {
    fn default() -> Self {
        Self { after_connect: None, before_acquire: None, after_release: None }
    }
}

impl<D: Database> fmt::Debug for UserHooks<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserHooks")
            .field("after_connect", &self.after_connect.is_some())
            .field("before_acquire", &self.before_acquire.is_some())
            .field("after_release", &self.after_release.is_some())
            .finish()
    }
}

tokio::task_local! {
    /// Set in the sweeper's task: `before_acquire` runs inside the task that acquires, `after_release` does not.
    pub(crate) static SWEEP: Arc<Sweep>;
}

/// What the sweeper asks of `before_acquire`, and what that answers.
pub(crate) struct Sweep {
    /// A stale connection that was idle for so long is not worth a successor.
    pub(crate) surplus_after: Option<Duration>,
    met: Mutex<Met>,
}

/// The connection that the sweeper's check-out met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Met {
    /// None was idle, or a broken one.
    #[default]
    None,
    /// One of the credentials in force.
    Fresh,
    /// A stale one. It was refused, so that the pool opens its successor in its place.
    Stale,
    /// A stale one that nobody needs. The sweeper has it.
    Surplus,
}

impl Sweep {
    pub(crate) fn new(surplus_after: Option<Duration>) -> Self {
        Self { surplus_after, met: Mutex::default() }
    }

    pub(crate) fn met(&self) -> Met {
        *self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meets(&self, met: Met) {
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = met;
    }
}

/// Sets all three hooks, replacing any that `options` has.
pub(crate) fn install<D: Database>(
    options: PoolOptions<D>,
    gate: &Arc<Gate>,
    base: &Arc<Options<D>>,
    handshake: Duration,
    user: UserHooks<D>,
) -> PoolOptions<D> {
    let UserHooks { after_connect, before_acquire, after_release } = user;
    let (at_connect, base) = (Arc::clone(gate), Arc::clone(base));
    let dialect = D::dialect(&base);
    let (at_acquire, at_release) = (Arc::clone(gate), Arc::clone(gate));
    options
        .after_connect(move |connection, metadata| {
            let (gate, base, user) = (Arc::clone(&at_connect), Arc::clone(&base), after_connect.clone());
            gate.note_opened();
            Box::pin(async move {
                settle::<D>(connection, &gate, &base, handshake).await?;
                match user {
                    Some(hook) => hook(connection, metadata).await,
                    None => Ok(()),
                }
            })
        })
        .before_acquire(move |connection, metadata| {
            let user = before_acquire.as_ref();
            match (at_acquire.verdict(metadata.age), SWEEP.try_with(Arc::clone).ok()) {
                (Freshness::Fresh | Freshness::Stale, None) => pass::<D>(user, connection, metadata),
                (Freshness::Ended, None) => Box::pin(Answer::<false>),
                (Freshness::Stale | Freshness::Ended, Some(sweep)) => refuse_stale(&sweep, &metadata),
                (Freshness::Fresh, Some(sweep)) => {
                    // Nobody waits for the sweeper, so it asks each connection that looks new for its user. Therefore
                    // the ages that a caller's check-out compares need no margin around the switch.
                    let (gate, user) = (Arc::clone(&at_acquire), user.cloned());
                    Box::pin(async move {
                        if !is_who_is_in_force::<D>(connection, &gate, dialect).await? {
                            sweep.meets(Met::Stale);
                            return Ok(false);
                        }
                        sweep.meets(Met::Fresh);
                        pass::<D>(user.as_ref(), connection, metadata).await
                    })
                }
            }
        })
        .after_release(move |connection, metadata| match at_release.verdict(metadata.age) {
            Freshness::Ended => Box::pin(Answer::<false>),
            Freshness::Fresh | Freshness::Stale => pass::<D>(after_release.as_ref(), connection, metadata),
        })
}

/// A handshake that began before the switch makes a connection of the old user that looks new by its age. Returning an
/// error would make sqlx connect again, but log an error that is none and back off; so the right connection is put in
/// the place of the wrong one.
async fn settle<D: Database>(
    connection: &mut D::Connection,
    gate: &Gate,
    base: &Options<D>,
    within: Duration,
) -> Result<(), sqlx::Error> {
    if !gate.has_switched() || is_who_is_in_force::<D>(connection, gate, D::dialect(base)).await? {
        return Ok(());
    }
    let _one_at_a_time = gate.straddling.lock().await;
    let Some(in_force) = gate.in_force() else { return Ok(()) };
    let credentials = in_force.issued.secret();
    let mut right = session::open::<D>(base, credentials, within).await?.connection;
    std::mem::swap(connection, &mut right);
    session::close(right).await;
    debug!(username = credentials.username(), "a handshake straddled the rotation; opened again");
    Ok(())
}

async fn is_who_is_in_force<D: Database>(
    connection: &mut D::Connection,
    gate: &Gate,
    dialect: &Dialect,
) -> Result<bool, sqlx::Error> {
    if !gate.tells_identity() {
        return Ok(true);
    }
    let user = match session::user::<D>(connection, dialect).await {
        Ok(user) => user,
        Err(error) if error::is_refused(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    // Asked after the query: what came into force meanwhile counts.
    Ok(gate.in_force().is_none_or(|in_force| in_force.issued.secret().username() == user))
}

fn refuse_stale<'c>(sweep: &Sweep, metadata: &PoolConnectionMetadata) -> BoxFuture<'c, bool> {
    if sweep.surplus_after.is_some_and(|limit| metadata.idle_for >= limit) {
        sweep.meets(Met::Surplus);
        return Box::pin(Answer::<true>);
    }
    sweep.meets(Met::Stale);
    Box::pin(Answer::<false>)
}

fn pass<'c, D: Database>(
    user: Option<&Hook<D, bool>>,
    connection: &'c mut D::Connection,
    metadata: PoolConnectionMetadata,
) -> BoxFuture<'c, bool> {
    match user {
        Some(hook) => hook(connection, metadata),
        None => Box::pin(Answer::<true>),
    }
}

/// Ready at once. It has no size, so boxing it allocates nothing, and a check-out costs what it did.
struct Answer<const YES: bool>;

impl<const YES: bool> Future for Answer<YES> {
    type Output = Result<bool, sqlx::Error>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(YES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_hook_of_the_user_allocates_nothing() {
        assert_eq!((size_of::<Answer<true>>(), size_of::<Answer<false>>()), (0, 0));
    }
}
