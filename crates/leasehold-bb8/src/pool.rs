//! A bb8 pool that rotates as long as somebody has it.

use std::{fmt, ops::Deref, sync::Arc};

use leasehold_core::{
    ErrorKind, Result,
    in_place::{InForce, InPlace, Settings},
};

use crate::{
    connect::Connect,
    manager::Manager,
    slots::{self, Places},
};

/// A [`bb8::Pool`] that rotates: it derefs to that, and is cloned as cheaply.
///
/// The rotation ends when the last clone of this is dropped, or with [`close`](Self::close); bb8's own pool could tell us
/// neither. A clone of the `bb8::Pool` inside is not counted: it hands out no connection after that.
pub struct Pool<C: Connect> {
    handle: Arc<Handle<C>>,
}

/// What the clones of a [`Pool`] share. The rotation does not hold it.
pub(crate) struct Handle<C: Connect> {
    pub(crate) pool: bb8::Pool<Manager<C>>,
    in_force: Arc<InForce>,
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
    let (shared, current) = (Arc::clone(&manager.shared), manager.current.clone());
    let first = shared.in_force.get()?;
    // Not `build`, which would try refused credentials for half a minute. If the proof fails, dropping the handle has
    // those that bb8 opens meanwhile fail too.
    let pool = builder.build_unchecked(manager);
    let handle = Arc::new(Handle { pool, in_force: Arc::clone(&shared.in_force) });
    let tag = shared.in_force.tag(Arc::clone(&first));
    let proof = slots::open(&handle.pool, tag).await.inspect_err(|error| {
        if error.kind() == ErrorKind::CredentialsRefused {
            current.reject(first.generation(), error.kind());
        }
    })?;
    if let Err(bb8::AddError::Broken(proof) | bb8::AddError::NoCapacity(proof)) = handle.pool.add(proof) {
        // `min_idle` is `max_size`, and they are being opened.
        shared.connect.close(proof.connection).await;
    }
    let places = Places { handle: Arc::downgrade(&handle), shared: Arc::clone(&shared) };
    tokio::spawn(InPlace::new(places, Arc::clone(&shared.in_force), current, settings).run());
    Ok(Pool { handle })
}

impl<C: Connect> Pool<C> {
    /// Ends the rotation, closes what is idle, and waits until what is borrowed has come back and is closed too.
    ///
    /// From the call on no connection is opened or handed out: who asks for one is answered
    /// [`TimedOut`](bb8::RunError::TimedOut) after bb8's `connection_timeout`, since bb8 has no word for it.
    ///
    /// # Cancel safety
    /// The pool is closed as soon as the future was polled; dropping it ends only the wait.
    pub async fn close(&self) {
        self.handle.in_force.close();
        while let Some(idle) = slots::take_idle(&self.handle.pool) {
            // Its manager takes nothing back.
            drop(idle);
        }
        self.handle.in_force.drained().await;
    }
}

impl<C: Connect> Drop for Handle<C> {
    fn drop(&mut self) {
        self.in_force.close();
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
        f.debug_struct("Pool").field("in_force", &self.handle.in_force).finish_non_exhaustive()
    }
}
