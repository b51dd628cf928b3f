//! A token that something else keeps in a file.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use leasehold_core::{
    Error, ErrorKind, ExposeSecret, Grant, Party, Provider, Record, Renewed, Result, Revoked, SecretString,
    Token, Vault, async_trait,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    file::{Looks, is_unwritten, read_secret},
    lookup,
};

/// A token in a file, which is looked at once a second: another token in it is the successor, at once. It is renewed
/// while it can be, and never revoked.
///
/// Its writer should replace the file (write another, then rename it), or a half-written token may be tried. A file that
/// goes away, is empty, or holds a token that is no longer valid, displaces nothing. At the start one that is not there yet
/// is waited for, as long as the keeper waits for a Vault that is down.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::TokenFile;
///
/// # fn example(vault: Arc<dyn Vault>) {
/// let login = TokenFile::new(vault, "/vault/secrets/token");
/// # }
/// ```
pub struct TokenFile {
    vault: Arc<dyn Vault>,
    path: PathBuf,
    /// What was read last, whatever came of it.
    tried: Mutex<Option<SecretString>>,
    looks: Looks,
}

impl TokenFile {
    /// Uses the token in the file at `path`.
    pub fn new(vault: Arc<dyn Vault>, path: impl AsRef<Path>) -> Self {
        Self { vault, path: path.as_ref().to_owned(), tried: Mutex::default(), looks: Looks::default() }
    }

    async fn holds_another(&self) -> bool {
        let Some(value) = self.looks.secret_in(&self.path).await else { return false };
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.as_ref().is_none_or(|tried| tried.expose_secret() != value.expose_secret())
    }
}

#[async_trait]
impl Provider for TokenFile {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let value = match read_secret(&self.path, "the token").await {
            Err(error) if is_unwritten(&self.path).await => {
                // Whoever writes it may be about to: an agent that starts beside the service.
                return Err(Error::new(ErrorKind::NotYet, Party::File, error.message()));
            }
            read => read?,
        };
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.clone());
        lookup::grant(&*self.vault, value).await.map_err(|error| match error.kind() {
            // Another may be written at any moment: it is looked for as one looks for a login to work again.
            ErrorKind::DeadToken => {
                let message = format!("the token in {} is no longer valid", self.path.display());
                Error::new(ErrorKind::LoginRefused, Party::File, message)
            }
            _ => error,
        })
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        lookup::renew(&*self.vault, of).await
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        lookup::revoke(&*self.vault, of).await
    }

    async fn changed(&self, _: &Record<Token>) {
        while !self.holds_another().await {
            sleep_until(Instant::now() + LOOK_EVERY).await;
        }
    }

    fn name(&self) -> String {
        format!("token file {}", self.path.display())
    }
}

/// Another reader of the same file, which has tried nothing yet.
impl Clone for TokenFile {
    fn clone(&self) -> Self {
        Self::new(self.vault.clone(), &self.path)
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
