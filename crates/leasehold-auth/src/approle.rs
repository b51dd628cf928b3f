//! Login of a machine with a role and a secret id.

use std::{fmt, path::Path, sync::Arc};

use leasehold_core::{Body, Result, Vault};

use crate::{
    login::{logs_in, mount},
    source::Source,
};

/// Logs in at `auth/<mount>/login` with a role id and, where the role demands one, a secret id.
///
/// A secret id of few uses is used up by as many logins: each token after the first is another one. Give the role a
/// token period, or the secret id enough uses.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::AppRole;
///
/// # fn example(vault: Arc<dyn Vault>) {
/// let login = AppRole::new(vault, "6f1a…").secret_id_file("/run/secrets/secret-id");
/// # }
/// ```
///
/// <https://openbao.org/docs/auth/approle/>
#[derive(Clone)]
pub struct AppRole {
    vault: Arc<dyn Vault>,
    role_id: String,
    mount: String,
    secret_id: Option<Source>,
}

impl AppRole {
    /// The role with this id, of the auth method mounted at `approle`, without a secret id.
    pub fn new(vault: Arc<dyn Vault>, role_id: impl Into<String>) -> Self {
        let role_id = role_id.into().trim().to_owned();
        Self { vault, role_id, mount: "approle".to_owned(), secret_id: None }
    }

    /// Sets where the auth method is mounted, without `auth/`.
    #[must_use]
    pub fn mount(mut self, name: &str) -> Self {
        self.mount = mount(name);
        self
    }

    /// Sets the secret id.
    #[must_use]
    pub fn secret_id(mut self, secret_id: impl Into<String>) -> Self {
        self.secret_id = Some(Source::given(secret_id));
        self
    }

    /// Sets which file holds the secret id; it is read anew at each login.
    #[must_use]
    pub fn secret_id_file(mut self, path: impl AsRef<Path>) -> Self {
        self.secret_id = Some(Source::file(path));
        self
    }

    /// Sets a wrapping token that holds the secret id. It is unwrapped once, by the first login.
    ///
    /// One that has been unwrapped before is refused with [`LoginRefused`](leasehold_core::ErrorKind::LoginRefused): whoever did has the secret id.
    #[must_use]
    pub fn wrapped_secret_id(mut self, token: impl Into<String>) -> Self {
        self.secret_id = Some(Source::wrapped(token, "secret_id"));
        self
    }

    fn path(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    async fn body(&self) -> Result<Body> {
        let mut body = Body::new().text("role_id", &self.role_id);
        if let Some(source) = &self.secret_id {
            body = body.secret("secret_id", &source.read(&self.vault, "the secret id").await?);
        }
        Ok(body)
    }
}

logs_in!(AppRole);

impl fmt::Debug for AppRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppRole")
            .field("path", &self.path())
            .field("secret_id", &self.secret_id)
            .finish_non_exhaustive()
    }
}
