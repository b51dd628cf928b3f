//! Dynamic database roles.

use std::{fmt, sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Grant, Issued, Lease, Party, Provider, Record, Renewed, Result,
    Revoked, Token, Vault, async_trait,
};

use crate::token;

/// Credentials from a dynamic role of the database secrets engine, `<mount>/creds/<role>`.
///
/// Each issue makes the server create a user in the database, for us alone, and gives it a lease under the token in
/// use. When the lease or the token ends, the server drops the user.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::{Current, Token, Vault};
/// use leasehold_secrets::DatabaseRole;
///
/// # fn example(vault: Arc<dyn Vault>, token: Current<Token>) {
/// let role = DatabaseRole::new(vault, token, "pipeline").mount("postgres-eu");
/// # }
/// ```
#[derive(Clone)]
pub struct DatabaseRole {
    vault: Arc<dyn Vault>,
    token: Current<Token>,
    mount: String,
    role: String,
    first_ttl: Option<Duration>,
}

impl DatabaseRole {
    /// The role `role` of the engine mounted at `database`, with whatever token is current.
    pub fn new(vault: Arc<dyn Vault>, token: Current<Token>, role: impl Into<String>) -> Self {
        Self { vault, token, mount: "database".to_owned(), role: role.into(), first_ttl: None }
    }

    /// Sets where the engine is mounted, such as `database` or `team/postgres`.
    #[must_use]
    pub fn mount(mut self, mount: &str) -> Self {
        mount.trim_matches('/').clone_into(&mut self.mount);
        self
    }

    /// Cuts each lease to this right after it was issued; the first renewal asks for its whole time again. A process that
    /// is killed again and again before it could renew then leaves users for minutes instead of hours. Each issue costs
    /// one more request, and the server runs its renewal statements once more.
    #[must_use]
    pub fn first_ttl(mut self, ttl: Duration) -> Self {
        self.first_ttl = Some(ttl);
        self
    }

    async fn cut(&self, token: &Token, lease: Lease) -> Lease {
        let (Some(first), Some(ttl)) = (self.first_ttl, lease.ttl()) else { return lease };
        if first >= ttl || !lease.renewable() {
            return lease;
        }
        match self.vault.renew_lease(token, lease.id(), first).await {
            Ok(Renewed { ttl: short }) if !short.is_zero() => {
                Lease::new(lease.id(), short.min(ttl), true).asking_for(ttl)
            }
            // It is a precaution: without it the lease is as long as its role says.
            _ => lease,
        }
    }

    fn path(&self) -> String {
        format!("{}/creds/{}", self.mount, self.role)
    }

    /// The token for renewing and revoking: the lease's own while it is usable, since it is sure to be allowed to;
    /// afterwards the current one.
    fn authority(&self, of: &Record<Credentials>) -> Result<Arc<Issued<Token>>> {
        let now = self.token.clock().now();
        match of.parent() {
            Some(own) if own.usable_until() > now => Ok(Arc::clone(own)),
            _ => self.token.get(),
        }
    }

    /// The token's successor makes our keeper reissue.
    fn report_dead(&self, token: &Issued<Token>, error: Error) -> Error {
        token::report_dead(&self.token, token, error)
    }
}

#[async_trait]
impl Provider for DatabaseRole {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        let token = self.token.get()?;
        if token.secret().is_used_up() {
            return Err(self.report_dead(&token, used_up()));
        }
        let answer = self
            .vault
            .read(token.secret(), &self.path())
            .await
            .map_err(|error| self.report_dead(&token, error))?;
        let credentials = answer
            .text("username")
            .and_then(|username| Ok(Credentials::new(username, answer.secret("password")?)));
        match credentials {
            Ok(credentials) => {
                let lease = self.cut(token.secret(), answer.lease().clone()).await;
                Ok(Grant::new(credentials, lease).under(token))
            }
            Err(error) => {
                // Nobody else will ever know of this lease.
                if !answer.lease().id().is_empty() {
                    let _ = self.vault.revoke_lease(token.secret(), answer.lease().id()).await;
                }
                Err(error)
            }
        }
    }

    async fn renew(&self, of: &Record<Credentials>) -> Result<Renewed> {
        let token = self.authority(of)?;
        if token.secret().is_used_up() {
            let message = "its token has one use left, with which the lease would end";
            return Err(Error::new(ErrorKind::NotRenewable, Party::Vault, message));
        }
        let increment = of.lease().increment();
        let renewed = self.vault.renew_lease(token.secret(), of.lease().id(), increment).await;
        renewed.map_err(|error| self.report_dead(&token, error))
    }

    async fn revoke(&self, of: &Record<Credentials>) -> Result<Revoked> {
        if of.lease().id().is_empty() {
            return Ok(Revoked::NotOurs);
        }
        let token = self.authority(of)?;
        self.vault.revoke_lease(token.secret(), of.lease().id()).await.map(|()| Revoked::Done)
    }

    fn name(&self) -> String {
        self.path()
    }
}

impl fmt::Debug for DatabaseRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseRole").field("path", &self.path()).finish_non_exhaustive()
    }
}

fn used_up() -> Error {
    let message = "the token has one use left, and what is issued with that ends at once: log in with a role whose \
                   token_num_uses is 0";
    Error::new(ErrorKind::DeadToken, Party::Vault, message)
}
