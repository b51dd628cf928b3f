//! A login of one's own: tokens made by a token role, `auth/token/create/<role>`, with a token that may do nothing else.
//!
//! It is a provider of tokens like any other; a keeper renews what it issues and asks for another in time.

use std::{fmt, sync::Arc};

use leasehold_core::{
    Body, Current, Error, ErrorKind, Grant, Party, Provider, Record, Renewed, Result, Revoked, Token, Vault,
    async_trait,
};

/// Tokens of a token role.
pub struct TokenRole {
    vault: Arc<dyn Vault>,
    maker: Current<Token>,
    role: String,
}

impl TokenRole {
    /// Tokens of the role `role`, made with the token `maker`, which its own keeper keeps alive.
    pub fn new(vault: Arc<dyn Vault>, maker: Current<Token>, role: &str) -> Self {
        Self { vault, maker, role: role.to_owned() }
    }
}

#[async_trait]
impl Provider for TokenRole {
    type Secret = Token;

    /// One attempt: the keeper tries again, at a pace that fits the error's kind.
    async fn issue(&self) -> Result<Grant<Token>> {
        let maker = self.maker.get()?;
        let answer =
            self.vault.write(maker.secret(), &self.name(), Body::new()).await.inspect_err(|error| {
                // Its keeper is to get another; that one's successor wakes ours.
                if error.kind() == ErrorKind::DeadToken {
                    self.maker.reject(maker.generation(), ErrorKind::DeadToken);
                }
            })?;
        let Some(auth) = answer.auth() else {
            return Err(Error::new(ErrorKind::Unexpected, Party::Vault, "the answer holds no token"));
        };
        // A child ends with the token that made it: so the keeper replaces it when that one is replaced.
        Ok(Grant::new(auth.token(), auth.lease().clone()).under(maker))
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.vault.renew_token(of.secret(), of.lease().increment()).await
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        if !of.secret().revocable() {
            return Ok(Revoked::NotOurs); // a batch token
        }
        self.vault.revoke_token(of.secret()).await.map(|()| Revoked::Done)
    }

    fn name(&self) -> String {
        format!("auth/token/create/{}", self.role)
    }
}

impl fmt::Debug for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRole").field("role", &self.role).finish_non_exhaustive()
    }
}
