//! A bb8 pool that rotates as long as somebody has it.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use leasehold_core::{
    ErrorKind, Result,
    clock::sleep_until,
    in_place::{Connect, InForce, InPlace, Settings},
};
use tokio::sync::oneshot;

use crate::{
    manager::{Manager, Shared},
    slots::{self, Places},
};

/// A [`bb8::Pool`] that rotates: it derefs to that, and is cloned as cheaply.
///
/// The rotation ends when the last clone of this is dropped, or with [`close`](Self::close); bb8's own pool could tell us
/// neither. A clone of the `bb8::Pool` inside is not counted: it hands out no connection after that.
pub struct Pool<C: Connect> {
    handle: Arc<Handle<C>>,
}

/// What the clones of a [`Pool`] share. The rotation does not hold it: bb8 has no weak handle, no count of its handles
/// and no `close`. If the rotation's task held bb8's own pool, then the pool, its sessions and its lease would live for
/// ever, although every caller had dropped the pool.
pub(crate) struct Handle<C: Connect> {
    pub(crate) pool: bb8::Pool<Manager<C>>,
    shared: Arc<Shared<C>>,
    /// What the rotation's task is left to tidy up.
    last: Option<oneshot::Sender<bb8::Pool<Manager<C>>>>,
}

/// Builds the pool, proves the credentials with its first connection, and rotates it from now on, until it is closed or
/// the last handle is dropped.
///
/// All settings of the builder are bb8's and yours, a customizer of connections included: it is called for those that the
/// rotation opens too. The connections of `min_idle` are opened in the background.
///
/// # Errors
/// What the first connection failed with: [`CredentialsRefused`](ErrorKind::CredentialsRefused),
/// [`DatabaseFull`](ErrorKind::DatabaseFull), [`DatabaseUnavailable`](ErrorKind::DatabaseUnavailable), or what the
/// [`Connect`] or your customizer says. Nothing is tried twice.
///
/// # Panics
/// As [`bb8::Builder::build`], if `min_idle` is larger than `max_size`.
///
/// # Cancel safety
/// Nothing is left behind when the future is dropped.
pub async fn build<C: Connect>(
    builder: bb8::Builder<Manager<C>>,
    mut manager: Manager<C>,
    settings: Settings,
) -> Result<Pool<C>> {
    manager.handshake = settings.handshake;
    let shared = Arc::clone(&manager.shared);
    let current = shared.current()?;
    let first = shared.in_force.get()?;
    // Not `build`, which would try refused credentials for half a minute.
    let (last, abandoned) = oneshot::channel();
    let pool = builder.build_unchecked(manager);
    if let Some(longest) = pool.config().max_lifetime {
        let _ = shared.max_lifetime.set(longest);
    }
    let handle = Arc::new(Handle { pool, shared: Arc::clone(&shared), last: Some(last) });
    let tag = shared.in_force.tag(Arc::clone(&first));
    let proof = slots::open(&handle.pool, tag).await.inspect_err(|error| {
        if error.kind() == ErrorKind::CredentialsRefused {
            current.reject(first.generation(), error.kind());
        }
    })?;
    match handle.pool.add(proof) {
        Ok(()) => shared.proved(None),
        // `min_idle` is `max_size`: bb8 is opening that many, and one of them is this.
        Err(bb8::AddError::Broken(proof) | bb8::AddError::NoCapacity(proof)) => shared.proved(Some(proof)),
    }
    let places = Places { handle: Arc::downgrade(&handle), shared: Arc::clone(&shared) };
    let rotation = InPlace::new(places, Arc::clone(&shared.in_force), current, settings);
    tokio::spawn(async move {
        rotation.run().await;
        if let Ok(pool) = abandoned.await {
            drain(&pool, &shared.in_force).await;
        }
    });
    Ok(Pool { handle })
}

/// Closes what is idle, and what comes back, until nothing is open any more. The manager takes nothing back.
async fn drain<C: Connect>(pool: &bb8::Pool<Manager<C>>, in_force: &InForce) {
    let clock = in_force.clock();
    loop {
        while let Some(idle) = slots::take_idle(pool) {
            drop(idle);
        }
        // bb8 may put one back that its manager was asked about a moment too early.
        tokio::select! {
            () = in_force.drained() => return,
            () = sleep_until(clock, clock.now() + LOOK_AGAIN) => {}
        }
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl<C: Connect> Pool<C> {
    /// Ends the rotation, closes what is idle, and waits until what is borrowed has come back and is closed too.
    ///
    /// From the call on no connection is opened or handed out: who asks for one is answered
    /// [`TimedOut`](bb8::RunError::TimedOut) after bb8's `connection_timeout`, since bb8 has no word for it.
    ///
    /// # Cancel safety
    /// The pool is closed as soon as the future was polled; dropping it ends only the wait.
    pub async fn close(&self) {
        self.handle.shared.close();
        drain(&self.handle.pool, &self.handle.shared.in_force).await;
    }
}

impl<C: Connect> Drop for Handle<C> {
    fn drop(&mut self) {
        self.shared.close();
        // What bb8 was about to open keeps the pool for a while, with everything that is idle in it.
        if let Some(last) = self.last.take() {
            let _ = last.send(self.pool.clone());
        }
    }
}

impl<C: Connect> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<C: Connect> Deref for Pool<C> {
    type Target = bb8::Pool<Manager<C>>;

    fn deref(&self) -> &Self::Target {
        &self.handle.pool
    }
}

impl<C: Connect> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("in_force", &self.handle.shared.in_force).finish_non_exhaustive()
    }
}
