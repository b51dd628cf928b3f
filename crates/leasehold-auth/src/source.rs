//! Where a login's own secret comes from.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use leasehold_core::{Error, ErrorKind, Party, Result, SecretString, Token, Vault, async_trait};
use tokio::sync::OnceCell;

use crate::file::{read_password, read_secret};

/// Whoever makes a login's secret on demand: a JWT of a cloud's metadata service, for one.
///
/// ```
/// use leasehold_auth::Ask;
/// use leasehold_core::{Result, SecretString, async_trait};
///
/// struct Metadata;
///
/// #[async_trait]
/// impl Ask for Metadata {
///     async fn ask(&self) -> Result<SecretString> {
///         Ok(SecretString::from("a fresh JWT".to_owned()))
///     }
/// }
/// ```
#[async_trait]
pub trait Ask: Send + Sync {
    /// Returns the secret for the login that is about to be made; asked anew for each.
    ///
    /// # Errors
    /// Any; the keeper tries again as its kind deserves. The error must not hold the secret.
    ///
    /// # Cancel safety
    /// The future may be dropped when the keeper gives an attempt up.
    async fn ask(&self) -> Result<SecretString>;
}

/// One of the ways.
#[derive(Clone)]
pub(crate) enum Source {
    Given(SecretString),
    File(PathBuf),
    PasswordFile(PathBuf),
    Asked(Arc<dyn Ask>),
    Wrapped(Arc<Wrapped>),
}

impl Source {
    pub(crate) fn given(secret: impl Into<String>) -> Self {
        Self::Given(secret.into().trim().to_owned().into())
    }

    pub(crate) fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().to_owned())
    }

    /// What a wrapping token holds: a token, or a field of anything else.
    pub(crate) fn wrapped(token: impl Into<String>, field: &'static str) -> Self {
        let token = Token::new(token.into().trim().to_owned());
        Self::Wrapped(Arc::new(Wrapped {
            token,
            field,
            tried: AtomicBool::new(false),
            unwrapped: OnceCell::new(),
        }))
    }

    /// Returns the secret as it is now; `what` is its name in errors.
    pub(crate) async fn read(&self, vault: &Arc<dyn Vault>, what: &str) -> Result<SecretString> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => read_secret(path, what).await,
            Self::PasswordFile(path) => read_password(path, what).await,
            Self::Asked(whom) => whom.ask().await,
            Self::Wrapped(wrapped) => unwrap_once(wrapped, vault, what).await,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("given"),
            Self::File(path) | Self::PasswordFile(path) => write!(f, "file {}", path.display()),
            Self::Asked(_) => f.write_str("asked for"),
            Self::Wrapped(_) => f.write_str("wrapped"),
        }
    }
}

/// A wrapping token, which is good for one answer, and that answer.
pub(crate) struct Wrapped {
    token: Token,
    field: &'static str,
    /// Whether the server may have answered an attempt of ours already.
    tried: AtomicBool,
    unwrapped: OnceCell<SecretString>,
}

/// In a task of its own: an answer that nobody waits for any more is the only one there is.
async fn unwrap_once(wrapped: &Arc<Wrapped>, vault: &Arc<dyn Vault>, what: &str) -> Result<SecretString> {
    let (wrapped, vault, what) = (wrapped.clone(), vault.clone(), what.to_owned());
    let task = tokio::spawn(async move {
        wrapped.unwrapped.get_or_try_init(|| wrapped.unwrap(&*vault, &what)).await.cloned()
    });
    let ended = |_| Error::new(ErrorKind::Unreachable, Party::Vault, "the runtime that unwraps it has ended");
    task.await.map_err(ended)?
}

impl Wrapped {
    async fn unwrap(&self, vault: &dyn Vault, what: &str) -> Result<SecretString> {
        let tried = self.tried.swap(true, Ordering::Relaxed);
        match vault.unwrap(&self.token).await {
            Ok(answer) => match answer.auth() {
                Some(auth) => Ok(auth.token().value().clone()),
                None => answer.data().secret(self.field),
            },
            Err(error) if error.kind() == ErrorKind::LoginRefused => {
                let ours = if tried { " (by an attempt of ours, perhaps, that got no answer)" } else { "" };
                let message = format!("{what}: {}{ours}", error.message());
                Err(Error::new(ErrorKind::LoginRefused, Party::Configuration, message))
            }
            Err(error) => Err(error),
        }
    }
}
