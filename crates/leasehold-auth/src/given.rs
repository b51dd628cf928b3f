//! A token that was given.

use std::{fmt, sync::Arc};

use leasehold_core::{
    Error, ErrorKind, Grant, Party, Provider, Record, Renewed, Result, Revoked, Token, Vault, async_trait,
};

use crate::{lookup, source::Source};

/// A token you have. It is looked up once, renewed while it can be, and never revoked. It has no successor: when it
/// nears its max TTL, the keeper says so, and everything issued under it ends with it.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::GivenToken;
///
/// # fn example(vault: Arc<dyn Vault>, token: String) {
/// let login = GivenToken::new(vault, token);
/// # }
/// ```
#[derive(Clone)]
pub struct GivenToken {
    vault: Arc<dyn Vault>,
    value: Source,
}

impl GivenToken {
    /// Uses `token`, without the white space around it that files and shells add.
    pub fn new(vault: Arc<dyn Vault>, token: impl Into<String>) -> Self {
        Self { vault, value: Source::given(token) }
    }

    /// Uses the token that a wrapping token holds, which is unwrapped once, at the start.
    ///
    /// One that has been unwrapped before is refused with [`LoginRefused`](ErrorKind::LoginRefused): whoever did has the token.
    pub fn wrapped(vault: Arc<dyn Vault>, wrapping_token: impl Into<String>) -> Self {
        Self { vault, value: Source::wrapped_token(wrapping_token) }
    }
}

#[async_trait]
impl Provider for GivenToken {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let value = self.value.read(&self.vault, "the token").await?;
        lookup::grant(&*self.vault, value).await.map_err(|error| match error.kind() {
            ErrorKind::DeadToken => {
                let message = format!("the given token cannot be used: {}", error.message());
                Error::new(ErrorKind::DeadToken, Party::Configuration, message)
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
        "given token".to_owned()
    }
}

impl fmt::Debug for GivenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenToken").finish_non_exhaustive()
    }
}
