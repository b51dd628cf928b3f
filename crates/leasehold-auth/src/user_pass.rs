//! Login with a name and a password.

use std::{fmt, path::Path, sync::Arc};

use leasehold_core::{Body, Error, ErrorKind, Party, Result, Vault};

use crate::{
    login::{logs_in, mount},
    source::Source,
};

/// Logs in at `auth/<mount>/login/<name>` with a password: of the method `userpass`, or, by the same request, of `ldap`.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::UserPass;
///
/// # fn example(vault: Arc<dyn Vault>) {
/// let login = UserPass::from_file(vault, "pipeline", "/run/secrets/password").mount("ldap");
/// # }
/// ```
///
/// <https://openbao.org/docs/auth/userpass/>
#[derive(Clone)]
pub struct UserPass {
    vault: Arc<dyn Vault>,
    name: String,
    mount: String,
    password: Source,
}

impl UserPass {
    /// The user `name` of the auth method mounted at `userpass`, with a password.
    pub fn new(vault: Arc<dyn Vault>, name: impl Into<String>, password: impl Into<String>) -> Self {
        // Unlike a token, a password may begin or end with a space.
        Self::with(vault, name.into(), Source::Given(password.into().into()))
    }

    /// As [`new`](Self::new), with the password in a file, which is read anew at each login, without the line
    /// end.
    pub fn from_file(vault: Arc<dyn Vault>, name: impl Into<String>, path: impl AsRef<Path>) -> Self {
        Self::with(vault, name.into(), Source::PasswordFile(path.as_ref().to_owned()))
    }

    fn with(vault: Arc<dyn Vault>, name: String, password: Source) -> Self {
        Self { vault, name, mount: "userpass".to_owned(), password }
    }

    /// Sets where the auth method is mounted, without `auth/`.
    #[must_use]
    pub fn mount(mut self, name: &str) -> Self {
        self.mount = mount(name);
        self
    }

    fn path(&self) -> String {
        format!("auth/{}/login/{}", self.mount, self.name)
    }

    async fn body(&self) -> Result<Body> {
        if self.name.is_empty() || self.name.contains('/') {
            let message = "the name to log in with is empty, or holds a slash";
            return Err(Error::new(ErrorKind::Configuration, Party::Configuration, message));
        }
        let password = self.password.read(&self.vault, "the password").await?;
        Ok(Body::new().secret("password", &password))
    }
}

logs_in!(UserPass);

impl fmt::Debug for UserPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserPass")
            .field("path", &self.path())
            .field("password", &self.password)
            .finish_non_exhaustive()
    }
}
