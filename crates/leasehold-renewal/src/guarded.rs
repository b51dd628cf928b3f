//! A provider that may panic.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use leasehold_core::{
    Error, ErrorKind, Grant, Party, Provider, Record, Renewed, Result, Revoked, async_trait,
};

/// Makes a panic a failure like any other: a keeper that ended with it would leave what it had issued to its TTL. A
/// provider takes `&self` and is asked again after a panic as after an error, so what it keeps must bear that.
pub(crate) struct Guarded<P>(pub(crate) P);

#[async_trait]
impl<P: Provider> Provider for Guarded<P> {
    type Secret = P::Secret;

    async fn issue(&self) -> Result<Grant<Self::Secret>> {
        guarded(async { self.0.issue().await }).await
    }

    async fn renew(&self, of: &Record<Self::Secret>) -> Result<Renewed> {
        guarded(async { self.0.renew(of).await }).await
    }

    async fn revoke(&self, of: &Record<Self::Secret>) -> Result<Revoked> {
        guarded(async { self.0.revoke(of).await }).await
    }

    async fn changed(&self, of: &Record<Self::Secret>) {
        let changed = AssertUnwindSafe(async { self.0.changed(of).await });
        if changed.catch_unwind().await.is_err() {
            // Whatever it saw, it would see again at once.
            std::future::pending().await
        }
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

async fn guarded<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(request).catch_unwind().await.unwrap_or_else(|_| {
        // What it said may hold anything, and the panic hook has shown it to whoever set that.
        Err(Error::new(ErrorKind::Unexpected, Party::Configuration, "the provider panicked"))
    })
}
