//! Login by the certificate of the connection.

use std::{fmt, sync::Arc};

use leasehold_core::{Body, Result, Vault};

use crate::login::{logs_in, mount};

/// Logs in at `auth/<mount>/login` with the certificate that the client shows when it connects: there is nothing else to
/// prove. The client is given it, with `leasehold_vault::Builder::client_cert_files` or `VAULT_CLIENT_CERT` and
/// `VAULT_CLIENT_KEY`, and reads the files again when they have changed.
///
/// The server renews such a token only over a connection with the same certificate, unless its method has
/// `disable_binding`. Where another takes its place, renewals are refused, and a new login replaces the token before it ends.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::TlsCertificate;
///
/// # fn example(vault: Arc<dyn Vault>) {
/// let login = TlsCertificate::new(vault).role("pipeline");
/// # }
/// ```
///
/// <https://openbao.org/docs/auth/cert/>
#[derive(Clone)]
pub struct TlsCertificate {
    vault: Arc<dyn Vault>,
    mount: String,
    role: Option<String>,
}

impl TlsCertificate {
    /// The auth method mounted at `cert`, with whichever of its roles the certificate fits.
    pub fn new(vault: Arc<dyn Vault>) -> Self {
        Self { vault, mount: "cert".to_owned(), role: None }
    }

    /// Sets where the auth method is mounted, without `auth/`.
    #[must_use]
    pub fn mount(mut self, name: &str) -> Self {
        self.mount = mount(name);
        self
    }

    /// Sets the one role to log in for; without it the server tries them all.
    #[must_use]
    pub fn role(mut self, name: impl Into<String>) -> Self {
        self.role = Some(name.into());
        self
    }

    fn path(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    async fn body(&self) -> Result<Body> {
        let body = Body::new();
        Ok(match &self.role {
            Some(role) => body.text("name", role),
            None => body,
        })
    }
}

logs_in!(TlsCertificate);

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsCertificate")
            .field("path", &self.path())
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
