//! A provider that may panic.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use leasehold_core::{
    Error, ErrorKind, Grant, Party, Provider, Record, Renewed, Result, Revoked, async_trait,
};

/// Makes a panic a failure like any other: a keeper that ended with it would leave its leases to their TTL. A provider takes
/// `&self` and is asked again after a panic as after an error, so its own state must bear that.
pub(crate) struct Guarded<P>(pub(crate) P);

#[async_trait]
impl<P: Provider> Provider for Guarded<P> {
    type Secret = P::Secret;

    async fn issue(&self) -> Result<Grant<Self::Secret>> {
        // The server may have answered by then: a lease that nobody knows of.
        guarded(async { self.0.issue().await }).await.unwrap_or_else(|| Err(panicked().unanswered()))
    }

    async fn renew(&self, of: &Record<Self::Secret>) -> Result<Renewed> {
        guarded(async { self.0.renew(of).await }).await.unwrap_or_else(|| Err(panicked()))
    }

    async fn revoke(&self, of: &Record<Self::Secret>) -> Result<Revoked> {
        guarded(async { self.0.revoke(of).await }).await.unwrap_or_else(|| Err(panicked()))
    }

    async fn changed(&self, of: &Record<Self::Secret>) {
        let changed = AssertUnwindSafe(async { self.0.changed(of).await });
        if changed.catch_unwind().await.is_err() {
            // The same file would make it panic again at once.
            std::future::pending().await
        }
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

/// The answer, or `None` after a panic.
async fn guarded<T>(request: impl Future<Output = Result<T>>) -> Option<Result<T>> {
    AssertUnwindSafe(request).catch_unwind().await.ok()
}

/// The panic's own words may hold a secret, and the panic hook has shown them already.
fn panicked() -> Error {
    Error::new(ErrorKind::Unexpected, Party::Configuration, "the provider panicked")
}
