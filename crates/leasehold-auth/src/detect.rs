//! Which login fits the environment.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use leasehold_core::{Error, ErrorKind, Party, Result, Vault};

use crate::{AppRole, GivenToken, Jwt, Kubernetes, Login, TlsCertificate, TokenFile, UserPass};

/// Picks a login that fits the process's environment: the one that `VAULT_AUTH_METHOD` names, else a token, a token file
/// or an AppRole that is named, else `~/.vault-token`, else the pod's service account. `role` is what to log in for unless `VAULT_ROLE` says otherwise.
/// The crate's documentation has the table.
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
/// [`Configuration`](ErrorKind::Configuration) when nothing fits; it says what was tried. The same when a method is named
/// that lacks something, or that is not known; and when a variable is not Unicode, unless it is a path.
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
    environment.check()?;
    let role = environment.variable("ROLE").unwrap_or_else(|| role.to_owned());
    let detection = Detection { environment, vault, role };
    match environment.variable("AUTH_METHOD") {
        Some(method) => detection.named(&method),
        None => detection.first_that_fits(),
    }
}

struct Detection<'a> {
    environment: &'a Environment,
    vault: Arc<dyn Vault>,
    role: String,
}

impl Detection<'_> {
    fn named(&self, method: &str) -> Result<Login> {
        let lacks = |what: &str| configuration(format!("VAULT_AUTH_METHOD is {method}, but {what}"));
        match method {
            "token" => self.named_token().or_else(|| self.token_at_home()).ok_or_else(|| {
                lacks("VAULT_TOKEN and VAULT_TOKEN_PATH are not set, and there is no ~/.vault-token")
            }),
            "approle" => self.approle().ok_or_else(|| lacks("VAULT_ROLE_ID is not set")),
            "kubernetes" => Ok(self.kubernetes()),
            "jwt" => self.jwt().ok_or_else(|| lacks("VAULT_JWT_FILE is not set")),
            "cert" => Ok(self.certificate()),
            "userpass" | "ldap" => self
                .user(method)
                .ok_or_else(|| lacks("it needs VAULT_USERNAME, and VAULT_PASSWORD_FILE or VAULT_PASSWORD")),
            _ => Err(configuration(format!(
                "VAULT_AUTH_METHOD is {method:?}, which is none of token, approle, kubernetes, jwt, cert, userpass, ldap"
            ))),
        }
    }

    fn first_that_fits(&self) -> Result<Login> {
        let named = self.named_token().or_else(|| self.approle());
        if let Some(login) = named.or_else(|| self.token_at_home()) {
            return Ok(login);
        }
        // A file that was named is used even if it is missing: that error is more helpful than "nothing fits".
        let jwt = self.jwt_path();
        if self.environment.path("JWT_FILE").is_some() || jwt.exists() {
            return Ok(self.kubernetes());
        }
        let home = self.environment.token_at_home();
        let home = home.map_or_else(|| "~/.vault-token (HOME is not set)".to_owned(), |path| shown(&path));
        Err(configuration(format!(
            "found no way to log in: VAULT_AUTH_METHOD names none; VAULT_TOKEN, VAULT_TOKEN_PATH and VAULT_ROLE_ID are not \
             set (nor with BAO_ in place of VAULT_); and neither {home} nor the service account's JWT at {} exists. Set \
             VAULT_TOKEN, or run in a pod with a service account",
            shown(&jwt)
        )))
    }

    fn named_token(&self) -> Option<Login> {
        let vault = self.vault.clone();
        if let Some(token) = self.environment.variable("TOKEN") {
            return Some(Box::new(GivenToken::new(vault, token)));
        }
        let path = self.environment.path("TOKEN_PATH")?;
        Some(Box::new(TokenFile::new(vault, path)))
    }

    /// What a developer's `vault login` leaves there: after everything that was named.
    fn token_at_home(&self) -> Option<Login> {
        let path = self.environment.token_at_home().filter(|path| path.is_file())?;
        Some(Box::new(TokenFile::new(self.vault.clone(), path)))
    }

    fn approle(&self) -> Option<Login> {
        let role_id = self.environment.variable("ROLE_ID")?;
        let mut login = AppRole::new(self.vault.clone(), role_id);
        if let Some(path) = self.environment.path("SECRET_ID_FILE") {
            login = login.secret_id_file(path);
        } else if let Some(secret_id) = self.environment.variable("SECRET_ID") {
            login = login.secret_id(secret_id);
        }
        Some(Box::new(login.mount(&self.mount("approle"))))
    }

    fn kubernetes(&self) -> Login {
        let login = Kubernetes::new(self.vault.clone(), &*self.role).jwt_path(self.jwt_path());
        let usual = self.environment.variable("KUBERNETES_MOUNT");
        Box::new(login.mount(&self.mount(usual.as_deref().unwrap_or("kubernetes"))))
    }

    fn jwt(&self) -> Option<Login> {
        let path = self.environment.path("JWT_FILE")?;
        let login = Jwt::from_file(self.vault.clone(), &*self.role, path);
        Some(Box::new(login.mount(&self.mount("jwt"))))
    }

    fn certificate(&self) -> Login {
        let login = TlsCertificate::new(self.vault.clone()).role(&*self.role);
        Box::new(login.mount(&self.mount("cert")))
    }

    fn user(&self, method: &str) -> Option<Login> {
        let (vault, name) = (self.vault.clone(), self.environment.variable("USERNAME")?);
        let login = match self.environment.path("PASSWORD_FILE") {
            Some(path) => UserPass::from_file(vault, name, path),
            None => UserPass::new(vault, name, self.environment.variable("PASSWORD")?),
        };
        Some(Box::new(login.mount(&self.mount(method))))
    }

    fn mount(&self, usual: &str) -> String {
        self.environment.variable("AUTH_MOUNT").unwrap_or_else(|| usual.to_owned())
    }

    fn jwt_path(&self) -> PathBuf {
        self.environment.path("JWT_FILE").unwrap_or_else(|| Kubernetes::JWT_PATH.into())
    }
}

/// Where [`detect_in`] looks variables up.
pub struct Environment {
    lookup: Box<Lookup>,
}

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl Environment {
    /// An environment in which `lookup` answers for the variables.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::of(move |name| lookup(name).map(OsString::from))
    }

    /// The process's own.
    pub fn of_process() -> Self {
        Self::of(|name| env::var_os(name))
    }

    fn of(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self { lookup: Box::new(lookup) }
    }

    /// A variable that is set, and cannot be read, must not count as one that is not set: another login would be chosen.
    fn check(&self) -> Result<()> {
        let is_unreadable = |name: &&&str| self.raw(name).is_some_and(|value| value.to_str().is_none());
        match TEXTS.iter().find(is_unreadable) {
            None => Ok(()),
            Some(name) => {
                Err(configuration(format!("VAULT_{name}, or BAO_{name}, is set to what is not Unicode")))
            }
        }
    }

    /// `BAO_X`, else `VAULT_X`. As in OpenBao's own client, the first hides the second even if it is empty; what is empty
    /// is not set.
    fn raw(&self, name: &str) -> Option<OsString> {
        let value = ["BAO_", "VAULT_"].iter().find_map(|prefix| (self.lookup)(&format!("{prefix}{name}")));
        value.filter(|value| !is_blank(value))
    }

    /// One of the [`TEXTS`].
    fn variable(&self, name: &str) -> Option<String> {
        self.raw(name)?.into_string().ok()
    }

    /// A variable that names a file. A path need not be Unicode.
    fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    fn token_at_home(&self) -> Option<PathBuf> {
        let home = (self.lookup)("HOME").filter(|home| !is_blank(home))?;
        Some(Path::new(&home).join(".vault-token"))
    }
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|value| value.trim().is_empty())
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

fn configuration(message: String) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The variables that are no paths.
const TEXTS: &[&str] = &[
    "AUTH_METHOD",
    "AUTH_MOUNT",
    "KUBERNETES_MOUNT",
    "PASSWORD",
    "ROLE",
    "ROLE_ID",
    "SECRET_ID",
    "TOKEN",
    "USERNAME",
];

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use leasehold_core::{Answer, Body, Token, async_trait};

    use super::*;

    struct Silent;

    #[async_trait]
    impl Vault for Silent {
        async fn login(&self, _: &str, _: Body) -> Result<Answer> {
            Ok(Answer::empty())
        }

        async fn read(&self, _: &Token, _: &str) -> Result<Answer> {
            Ok(Answer::empty())
        }

        async fn write(&self, _: &Token, _: &str, _: Body) -> Result<Answer> {
            Ok(Answer::empty())
        }
    }

    fn detect(variables: &'static [(&'static str, &'static [u8])]) -> Result<String> {
        let environment = Environment::of(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from_vec(value.to_vec()))
        });
        detect_in(&environment, Arc::new(Silent), "pipeline").map(|login| login.name())
    }

    #[test]
    fn what_is_not_unicode_is_told_and_not_taken_for_what_is_not_set() {
        let error = detect(&[("VAULT_TOKEN", b"hvs.\xff"), ("VAULT_ROLE_ID", b"id")]).unwrap_err();
        assert_eq!((error.kind(), error.party()), (ErrorKind::Configuration, Party::Configuration));
        assert!(error.message().contains("VAULT_TOKEN") && !error.message().contains("hvs."), "{error}");
        let hidden: &[(&str, &[u8])] =
            &[("VAULT_TOKEN", b"\xff"), ("BAO_TOKEN", b""), ("VAULT_ROLE_ID", b"id")];
        assert_eq!(detect(hidden).unwrap(), "auth/approle/login");
        let path: &[(&str, &[u8])] =
            &[("HOME", b"/h\xffme"), ("VAULT_TOKEN_PATH", b"/t\xff"), ("VAULT_JWT_FILE", b"/j")];
        assert_eq!(detect(path).unwrap(), "token file /t\u{fffd}", "a path need not be");
    }
}
