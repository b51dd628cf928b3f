//! Dynamic database roles.

use std::{fmt, sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Fields, Grant, Party, Provider, Record, Renewed, Result, Revoked,
    Token, Vault, async_trait,
};

use crate::access::{Access, Request, trimmed};

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
    access: Access,
    mount: String,
    role: String,
    first_ttl: Option<Duration>,
}

impl DatabaseRole {
    /// The role `role` of the engine mounted at `database`, with whatever token is current.
    pub fn new(vault: Arc<dyn Vault>, token: Current<Token>, role: impl Into<String>) -> Self {
        let access = Access::new(vault, token);
        Self { access, mount: "database".to_owned(), role: role.into(), first_ttl: None }
    }

    /// Sets where the engine is mounted, such as `database` or `team/postgres`.
    #[must_use]
    pub fn mount(mut self, mount: &str) -> Self {
        self.mount = trimmed(mount);
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

    fn path(&self) -> String {
        format!("{}/creds/{}", self.mount, self.role)
    }
}

#[async_trait]
impl Provider for DatabaseRole {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        self.access.issue(&Request::read(self.path()), self.first_ttl, credentials).await
    }

    async fn renew(&self, of: &Record<Credentials>) -> Result<Renewed> {
        self.access.renew(of).await
    }

    async fn revoke(&self, of: &Record<Credentials>) -> Result<Revoked> {
        self.access.revoke(of).await
    }

    async fn changed(&self, _: &Record<Credentials>) {
        self.access.revived().await
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

fn credentials(data: &Fields) -> Result<Credentials> {
    let is_of_another_type = |name: &str| name.ends_with("private_key") || name == "client_certificate";
    if data.names().any(is_of_another_type) && data.text("password").is_err() {
        let message = "the role's credential_type gives a key, and a pool wants a password: set it to `password`, or \
                       read the role with `Leased::<KeyCredentials>` or `Leased::<CertificateCredentials>`";
        return Err(Error::new(ErrorKind::Configuration, Party::Configuration, message));
    }
    Ok(Credentials::new(data.text("username")?, data.secret("password")?))
}
