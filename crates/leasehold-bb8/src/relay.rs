//! Exchanging a connection in the moment in which it comes back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use leasehold_core::Generation;
use tokio::sync::oneshot;

use crate::manager::Connection;

/// In a pool whose connections are all borrowed, one that comes back is gone again before anybody can look. But bb8
/// shows it to its manager first, which may leave another in its place.
pub(crate) struct Relay<T>(Mutex<Option<Offer<T>>>);

struct Offer<T> {
    /// Of which generation the next one is exchanged.
    of: Generation,
    fresh: Connection<T>,
    old: oneshot::Sender<Connection<T>>,
}

impl<T> Default for Relay<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Relay<T> {
    /// Leaves what is offered in the place of `connection`, if that is what the offer is for and it is of use. The place must
    /// not be one that is about to be closed.
    pub(crate) fn pass(
        &self,
        connection: &mut Connection<T>,
        is_of_use: impl FnOnce(&mut Connection<T>) -> bool,
    ) {
        let generation = connection.tagged.tag().generation();
        let taken = self.offer().take_if(|offer| offer.of == generation && is_of_use(&mut offer.fresh));
        if let Some(Offer { mut fresh, old, .. }) = taken {
            (fresh.idle_since, fresh.place_since) = (connection.idle_since, connection.place_since);
            // Closed here if nobody waits for it any more.
            let _ = old.send(std::mem::replace(connection, fresh));
        }
    }

    /// Offers `fresh` for the next connection of a generation that comes back, and waits for that one, which is to be closed.
    ///
    /// # Errors
    /// `fresh`, if none came back until then.
    ///
    /// # Cancel safety
    /// The offer is withdrawn, and `fresh` closed, when the future is dropped.
    pub(crate) async fn exchange(
        &self,
        of: Generation,
        fresh: Connection<T>,
        until: impl Future<Output = ()>,
    ) -> Result<Option<Connection<T>>, Connection<T>> {
        let (sender, mut receiver) = oneshot::channel();
        *self.offer() = Some(Offer { of, fresh, old: sender });
        let offered = Withdraw(self);
        tokio::select! {
            biased;
            Ok(old) = &mut receiver => return Ok(Some(old)),
            () = until => {}
        }
        let left = offered.0.offer().take();
        match left {
            Some(offer) => Err(offer.fresh),
            // Taken at the last moment.
            None => Ok(receiver.await.ok()),
        }
    }

    fn offer(&self) -> MutexGuard<'_, Option<Offer<T>>> {
        // Nothing that holds it can leave it half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Withdraw<'a, T>(&'a Relay<T>);

impl<T> Drop for Withdraw<'_, T> {
    fn drop(&mut self) {
        let offer = self.0.offer().take();
        // It closes a connection, which is not done under the lock.
        drop(offer);
    }
}
