//! The request that every login makes.

use std::{
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
    time::Duration,
};

use leasehold_core::{Auth, Body, Error, ErrorKind, ExposeSecret, Grant, Party, Result, Token, Vault};

/// Writes to a login path; the answer's token is ours.
pub(crate) async fn log_in(vault: &dyn Vault, path: &str, proof: Proof) -> Result<Grant<Token>> {
    let answer = vault.login(path, proof.body).await?;
    let is_token = |auth: &&Auth| !auth.token().value().expose_secret().trim().is_empty();
    let Some(auth) = answer.auth().filter(is_token) else {
        let message = format!("{path} answered without a token");
        return Err(Error::new(ErrorKind::Unexpected, Party::Vault, message).unanswered());
    };
    let token = auth.token();
    let lease = auth.lease().clone().with_renewals_for(proof.looked_at_for).naming(&name(&token));
    Ok(Grant::new(token, lease))
}

/// The body of a login, and how long its proof lasts.
pub(crate) struct Proof {
    pub(crate) body: Body,
    /// For how long it holds, where the server looks at it again at each renewal and that is known.
    pub(crate) looked_at_for: Option<Duration>,
}

impl From<Body> for Proof {
    fn from(body: Body) -> Self {
        Self { body, looked_at_for: None }
    }
}

/// Tells a token from another: a cache between us and the server may answer a login with the token of the one before.
fn name(token: &Token) -> String {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    match token.accessor() {
        Some(accessor) => accessor.to_owned(),
        // A batch token has none. The hash means nothing outside this process.
        None => format!("{:016x}", HASHER.hash_one(token.value().expose_secret())),
    }
}

/// A mount as it is in a path, however it was written: without `auth/` and slashes around it.
pub(crate) fn mount(name: &str) -> String {
    name.trim_matches('/').trim_start_matches("auth/").to_owned()
}

/// Makes a provider of a type with a `vault`, a `path()` to log in at, and a `body()` for each login: its tokens are ours to
/// renew and to revoke.
macro_rules! logs_in {
    ($login:ty) => {
        #[leasehold_core::async_trait]
        impl leasehold_core::Provider for $login {
            type Secret = leasehold_core::Token;

            async fn issue(&self) -> leasehold_core::Result<leasehold_core::Grant<leasehold_core::Token>> {
                let proof = self.body().await?.into();
                $crate::login::log_in(&*self.vault, &self.path(), proof).await
            }

            async fn renew(
                &self,
                of: &leasehold_core::Record<leasehold_core::Token>,
            ) -> leasehold_core::Result<leasehold_core::Renewed> {
                $crate::lookup::renew(&*self.vault, of).await
            }

            async fn revoke(
                &self,
                of: &leasehold_core::Record<leasehold_core::Token>,
            ) -> leasehold_core::Result<leasehold_core::Revoked> {
                $crate::lookup::revoke(&*self.vault, of).await
            }

            fn name(&self) -> String {
                self.path()
            }
        }
    };
}
pub(crate) use logs_in;
