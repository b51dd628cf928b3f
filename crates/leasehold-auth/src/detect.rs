//! Which login fits the environment.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use leasehold_core::{Error, ErrorKind, Party, Result, Vault};

use crate::{GivenToken, Kubernetes, Login, TokenFile};

/// Picks a login that fits the process's environment: an explicit token, then a token file, then the pod's service
/// account with the role `role`. The crate's documentation has the table.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::{Result, Vault};
/// # fn example(vault: Arc<dyn Vault>) -> Result<()> {
/// let login = leasehold_auth::detect(vault, "pipeline")?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration) when nothing fits; it says what was tried.
pub fn detect(vault: Arc<dyn Vault>, role: &str) -> Result<Login> {
    detect_in(&Environment::of_process(), vault, role)
}

/// As [`detect`], in a given environment.
///
/// ```
/// # use std::sync::Arc;
/// # use leasehold_core::Vault;
/// use leasehold_auth::{Environment, detect_in};
///
/// # fn example(vault: Arc<dyn Vault>) {
/// let environment = Environment::new(|name| (name == "VAULT_TOKEN").then(|| "hvs.abc".to_owned()));
/// assert_eq!(detect_in(&environment, vault, "pipeline").unwrap().name(), "given token");
/// # }
/// ```
///
/// # Errors
/// As [`detect`].
pub fn detect_in(environment: &Environment, vault: Arc<dyn Vault>, role: &str) -> Result<Login> {
    if let Some(token) = environment.token() {
        return Ok(Box::new(GivenToken::new(vault, token)));
    }
    if let Some(path) = environment.variable("VAULT_TOKEN_PATH") {
        return Ok(Box::new(TokenFile::new(vault, path)));
    }
    let token_file = environment.variable("HOME").map(|home| Path::new(&home).join(".vault-token"));
    if let Some(path) = token_file.as_ref().filter(|path| path.is_file()) {
        return Ok(Box::new(TokenFile::new(vault, path)));
    }
    let named = environment.variable("VAULT_JWT_FILE").map(PathBuf::from);
    let jwt_path = named.clone().unwrap_or_else(|| Kubernetes::JWT_PATH.into());
    // A file that was named is used even if it is missing: that error is more helpful than "nothing fits".
    if named.is_some() || jwt_path.exists() {
        let login = Kubernetes::new(vault, role).jwt_path(jwt_path);
        return Ok(Box::new(match environment.variable("VAULT_KUBERNETES_MOUNT") {
            Some(mount) => login.mount(&mount),
            None => login,
        }));
    }
    let token_file = token_file
        .map_or_else(|| "~/.vault-token (HOME is not set)".to_owned(), |path| path.display().to_string());
    let message = format!(
        "found no way to log in: BAO_TOKEN, VAULT_TOKEN and VAULT_TOKEN_PATH are not set, and neither {token_file} nor the \
         service account's JWT at {} exists. Set VAULT_TOKEN, or run in a pod with a service account.",
        jwt_path.display()
    );
    Err(Error::new(ErrorKind::Configuration, Party::Configuration, message))
}

/// Where [`detect_in`] looks variables up.
pub struct Environment {
    lookup: Box<Lookup>,
}

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// An environment in which `lookup` answers for the variables.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { lookup: Box::new(lookup) }
    }

    /// The process's own.
    pub fn of_process() -> Self {
        Self::new(|name| env::var(name).ok())
    }

    /// As in OpenBao's own client, `BAO_TOKEN` hides `VAULT_TOKEN` even if it is empty.
    fn token(&self) -> Option<String> {
        let token = (self.lookup)("BAO_TOKEN").or_else(|| (self.lookup)("VAULT_TOKEN"));
        token.filter(|token| !token.trim().is_empty())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.trim().is_empty())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}
