//! A token that something else keeps in a file.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use leasehold_core::{
    Error, ErrorKind, Grant, Party, Provider, Record, Renewed, Result, Revoked, Token, Vault, async_trait,
};

use crate::{file::read_secret, lookup};

/// A token in a file. It is renewed while it can be and never revoked; when it nears its end, or is found dead, the
/// file is read again, and another token in it is the successor.
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
#[derive(Clone)]
pub struct TokenFile {
    vault: Arc<dyn Vault>,
    path: PathBuf,
}

impl TokenFile {
    /// Uses the token in the file at `path`.
    pub fn new(vault: Arc<dyn Vault>, path: impl AsRef<Path>) -> Self {
        Self { vault, path: path.as_ref().to_owned() }
    }
}

#[async_trait]
impl Provider for TokenFile {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let value = read_secret(&self.path, "the token").await?;
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

    fn name(&self) -> String {
        format!("token file {}", self.path.display())
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}
