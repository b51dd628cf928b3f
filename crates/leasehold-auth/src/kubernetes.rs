//! Login with the pod's service account.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use leasehold_core::{Body, Result, Vault};

use crate::{
    file::read_secret,
    jwt_end,
    login::{Proof, logs_in, mount},
};

/// Logs in at `auth/<mount>/login` with the service account's JWT.
///
/// The file is read and trimmed at each login: the kubelet replaces it long before the JWT expires, and a JWT read at
/// start would be refused an hour later.
///
/// OpenBao from 2.6.4 and 2.7.1 on looks at the JWT again whenever the token is renewed, and refuses once it has expired. So
/// the grant tells when that will be, as the JWT itself says ([`Lease::renewals_for`](leasehold_core::Lease::renewals_for)).
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::Kubernetes;
///
/// # fn example(vault: Arc<dyn Vault>) {
/// let login = Kubernetes::new(vault, "pipeline").mount("kubernetes-eu");
/// # }
/// ```
#[derive(Clone)]
pub struct Kubernetes {
    vault: Arc<dyn Vault>,
    role: String,
    mount: String,
    jwt_path: PathBuf,
}

impl Kubernetes {
    /// Where a pod finds the JWT of its service account.
    pub const JWT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

    /// The role `role` of the auth method mounted at `kubernetes`, with the JWT at [`JWT_PATH`](Self::JWT_PATH).
    pub fn new(vault: Arc<dyn Vault>, role: impl Into<String>) -> Self {
        Self { vault, role: role.into(), mount: "kubernetes".to_owned(), jwt_path: Self::JWT_PATH.into() }
    }

    /// Sets where the auth method is mounted, without `auth/`.
    #[must_use]
    pub fn mount(mut self, name: &str) -> Self {
        self.mount = mount(name);
        self
    }

    /// Sets which file holds the JWT: a projected volume with an audience of its own, for one.
    #[must_use]
    pub fn jwt_path(mut self, path: impl AsRef<Path>) -> Self {
        self.jwt_path = path.as_ref().to_owned();
        self
    }

    fn path(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    async fn body(&self) -> Result<Proof> {
        let jwt = read_secret(&self.jwt_path, "the service account's JWT").await?;
        let body = Body::new().text("role", &self.role).secret("jwt", &jwt);
        Ok(Proof { body, looked_at_for: jwt_end::holds_for(&jwt, SystemTime::now()) })
    }
}

logs_in!(Kubernetes);

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("path", &self.path())
            .field("role", &self.role)
            .field("jwt_path", &self.jwt_path)
            .finish_non_exhaustive()
    }
}
