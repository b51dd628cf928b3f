//! What a pool must be able to do to change credentials.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Credentials, Issued, Result};

/// Puts credentials into use in a pool, and lets old ones go. Implement this and any pool rotates.
///
/// [`drive`](crate::drive) calls it: `adopt` for each new generation, and `retire` for each one that a newer one has
/// replaced, oldest first. The two never run at the same time.
#[async_trait]
pub trait Rotate: Send + Sync {
    /// Proves `next` by opening a connection with it, and makes the pool open its connections with it from now on.
    ///
    /// # Errors
    /// [`CredentialsRefused`](crate::ErrorKind::CredentialsRefused) only if the database refused the credentials
    /// themselves: it makes the keeper verify them and issue others. Anything else means "not proved, try again".
    /// On any error the pool is as it was.
    ///
    /// # Cancel safety
    /// Not cancel-safe and never cancelled but by the end of the pool; it must bound its own time.
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()>;

    /// Lets go of the connections that `old` opened, at a pace that no caller notices. It returns when none is left,
    /// or when `old` has ended.
    ///
    /// # Cancel safety
    /// Cancel-safe: it is dropped when a newer generation arrives, and called again afterwards.
    async fn retire(&self, old: &Arc<Issued<Credentials>>) -> Retired;
}

/// How a retirement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Connections of the old generation still open; `None` if the pool cannot count them.
    pub remaining: Option<usize>,
}
