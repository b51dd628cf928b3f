//! Where a login's own secret comes from.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use leasehold_core::{
    Answer, Error, ErrorKind, ExposeSecret, Party, Result, SecretString, Token, Vault, async_trait,
};
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

    /// A field of the answer that a wrapping token holds.
    pub(crate) fn wrapped(token: impl Into<String>, field: &'static str) -> Self {
        Self::in_wrapping(&token.into(), Held::Field(field))
    }

    /// The token that a wrapping token holds: of a login, or in a field `token`.
    pub(crate) fn wrapped_token(token: impl Into<String>) -> Self {
        Self::in_wrapping(&token.into(), Held::Token)
    }

    fn in_wrapping(token: &str, held: Held) -> Self {
        let token = Token::new(token.trim().to_owned());
        let perhaps_ours = AtomicBool::new(false);
        Self::Wrapped(Arc::new(Wrapped { token, held, perhaps_ours, unwrapped: OnceCell::new() }))
    }

    /// Returns the secret as it is now; `what` is its name in errors.
    pub(crate) async fn read(&self, vault: &Arc<dyn Vault>, what: &str) -> Result<SecretString> {
        let secret = match self {
            Self::Given(secret) => secret.clone(),
            Self::File(path) => read_secret(path, what).await?,
            Self::PasswordFile(path) => read_password(path, what).await?,
            Self::Asked(whom) => whom.ask().await?,
            Self::Wrapped(wrapped) => unwrap_once(wrapped, vault, what).await?,
        };
        if secret.expose_secret().trim().is_empty() {
            return Err(unusable(format!("{what} is empty")));
        }
        Ok(secret)
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
    held: Held,
    /// Whether an attempt of ours may have unwrapped it without hearing of it.
    perhaps_ours: AtomicBool,
    /// Its content, or the reason why that cannot be used: the server gives it once.
    unwrapped: OnceCell<Result<SecretString>>,
}

/// The expected content of a wrapping token.
#[derive(Clone, Copy)]
enum Held {
    Token,
    Field(&'static str),
}

/// In a task of its own: an answer that nobody waits for any more is the only one there is.
async fn unwrap_once(wrapped: &Arc<Wrapped>, vault: &Arc<dyn Vault>, what: &str) -> Result<SecretString> {
    let (wrapped, vault, what) = (wrapped.clone(), vault.clone(), what.to_owned());
    let task = tokio::spawn(async move {
        wrapped.unwrapped.get_or_try_init(|| wrapped.unwrap(&*vault, &what)).await.cloned()
    });
    let ended = |_| Error::new(ErrorKind::Unreachable, Party::Vault, "the runtime that unwraps it has ended");
    task.await.map_err(ended)??
}

impl Wrapped {
    /// Returns the content, or the reason why it does not fit. After the outer error it may be tried again.
    async fn unwrap(&self, vault: &dyn Vault, what: &str) -> Result<Result<SecretString>> {
        match vault.unwrap(&self.token).await {
            Ok(answer) => Ok(self.held.in_answer(&answer, what)),
            Err(error) if error.kind() == ErrorKind::LoginRefused => {
                let ours = if self.perhaps_ours.load(Ordering::Relaxed) {
                    " (by an attempt of ours, perhaps, that got no answer)"
                } else {
                    ""
                };
                let message = format!("{what}: {}{ours}", error.message());
                Err(Error::new(ErrorKind::LoginRefused, Party::Configuration, message))
            }
            Err(error) => {
                self.perhaps_ours.fetch_or(error.may_have_been_carried_out(), Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

impl Held {
    fn in_answer(self, answer: &Answer, what: &str) -> Result<SecretString> {
        let used_up = |problem: String| {
            unusable(format!("{what}: {problem}; the wrapping token is used up, so have another wrapped"))
        };
        let field = |name| answer.data().secret(name).map_err(|error| used_up(error.message().to_owned()));
        let secret = match (self, answer.auth()) {
            (Self::Token, Some(auth)) => auth.token().value().clone(),
            (Self::Token, None) => field("token")?,
            (Self::Field(name), None) => field(name)?,
            (Self::Field(name), Some(_)) => {
                return Err(used_up(format!("what was wrapped is a token, and has no field `{name}`")));
            }
        };
        if secret.expose_secret().trim().is_empty() {
            return Err(used_up("what was wrapped is empty".to_owned()));
        }
        Ok(secret)
    }
}

fn unusable(message: String) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}
