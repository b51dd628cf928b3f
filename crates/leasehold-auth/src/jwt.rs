//! Login with a JWT that somebody whom Vault trusts has signed.

use std::{fmt, path::Path, sync::Arc};

use leasehold_core::{Body, Result, Vault};

use crate::{
    login::{logs_in, mount},
    source::{Ask, Source},
};

/// Logs in at `auth/<mount>/login` with a JWT: of a Kubernetes cluster whose issuer Vault trusts, without a TokenReview;
/// of a CI's job; of a cloud's workload identity.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::Jwt;
///
/// # fn example(vault: Arc<dyn Vault>) {
/// let login = Jwt::from_file(vault, "pipeline", "/var/run/secrets/tokens/vault");
/// # }
/// ```
///
/// <https://openbao.org/docs/auth/jwt/>
#[derive(Clone)]
pub struct Jwt {
    vault: Arc<dyn Vault>,
    role: String,
    mount: String,
    jwt: Source,
}

impl Jwt {
    /// The role `role` of the auth method mounted at `jwt`, with the JWT in a file, which is read anew at each login.
    pub fn from_file(vault: Arc<dyn Vault>, role: impl Into<String>, path: impl AsRef<Path>) -> Self {
        Self::new(vault, role.into(), Source::file(path))
    }

    /// As [`from_file`](Self::from_file), with a JWT that is asked for at each login.
    pub fn from_asking(vault: Arc<dyn Vault>, role: impl Into<String>, whom: impl Ask + 'static) -> Self {
        Self::new(vault, role.into(), Source::Asked(Arc::new(whom)))
    }

    fn new(vault: Arc<dyn Vault>, role: String, jwt: Source) -> Self {
        Self { vault, role, mount: "jwt".to_owned(), jwt }
    }

    /// Sets where the auth method is mounted, without `auth/`.
    #[must_use]
    pub fn mount(mut self, name: &str) -> Self {
        self.mount = mount(name);
        self
    }

    fn path(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    // The JWT's end is not told to the keeper, because the method `jwt` does not look at the JWT again at renewals. A
    // login for the sake of that end would fail where nobody replaces the JWT, as in a CI's job.
    async fn body(&self) -> Result<Body> {
        let jwt = self.jwt.read(&self.vault, "the JWT").await?;
        Ok(Body::new().text("role", &self.role).secret("jwt", &jwt))
    }
}

logs_in!(Jwt);

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("path", &self.path())
            .field("role", &self.role)
            .field("jwt", &self.jwt)
            .finish_non_exhaustive()
    }
}
