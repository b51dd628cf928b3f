//! The one error of Leasehold.

use std::{fmt, time::Duration};

/// Why something failed, whose failure it was, and whether trying again can help.
///
/// Nothing secret is ever in it, and no error of another crate is its source: those carry bodies and tokens.
///
/// ```
/// use leasehold_core::{Error, ErrorKind, Party};
///
/// let error = Error::new(ErrorKind::Denied, Party::Vault, "no `read` on database/creds/pipeline");
/// assert_eq!(error.to_string(), "Vault: no `read` on database/creds/pipeline");
/// assert!(!error.is_retryable());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    party: Party,
    message: String,
    retry_after: Option<Duration>,
    unanswered: bool,
}

/// What went wrong. Each says what the user should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The keeper was shut down. Use another, or stop using the secret.
    Closed,
    /// A setting, an address, a certificate or a path cannot be used as it is. Correct it and start again.
    Configuration,
    /// The database refuses the credentials. Nothing to do: they are verified and issued again; if it goes on, look at
    /// the role's creation statements and at the database's access rules.
    CredentialsRefused,
    /// The database cannot be reached, is starting, or is full. Nothing is wrong with the credentials: look at the database.
    DatabaseUnavailable,
    /// The database, or the user, has as many connections as it may have. Nothing is wrong with the credentials: raise
    /// the limit, or make the pools smaller; a rotation needs one connection more than the pool for a moment.
    DatabaseFull,
    /// The token is no longer valid. A keeper that can log in does so; a token that was given must be given anew.
    DeadToken,
    /// The token's policy does not allow the request. Grant the capability that the message names on the path it names.
    Denied,
    /// The lease has ended or was revoked. Nothing to do: the secret is issued again.
    LeaseGone,
    /// The login was refused in words that may pass: a bare "permission denied" to a JWT, which the server also says when it
    /// cannot have the JWT checked, or a JWT that is not valid yet. Nothing to do at first: it is tried again. If it goes on,
    /// the message lists the causes.
    LoginDoubtful,
    /// The server renews the token no more, since its login does not hold any longer, or cannot be checked: the JWT has
    /// expired, the account is gone, the role has changed. No policy is at fault. Nothing to do: the token goes on
    /// working until its end, and a new login replaces it.
    LoginLapsed,
    /// The login was refused: the service account, the role's bindings, the audience or the JWT's expiry do not fit.
    LoginRefused,
    /// No such role, mount or path. Create it in Vault, or correct the name; attempts go on, slowly.
    NotFound,
    /// Another node has not seen the write yet. Nothing to do: it is tried again shortly.
    NotReplicated,
    /// The lease cannot be renewed. Nothing to do: the secret is replaced before its end.
    NotRenewable,
    /// There is no secret yet: the first one has not been issued.
    NotYet,
    /// Too many requests, or a quota is used up. Raise the quota if it persists; attempts wait as long as the server asks.
    RateLimited,
    /// The server redirected to an address that is not its own; following would have sent the token there. Add the
    /// node's address to the client's list of nodes if it is one of yours.
    Redirected,
    /// The server could not renew the lease in the database behind it: its user or its role is gone. The secret is issued again.
    RenewalFailed,
    /// The server is sealed, or a standby that does not forward. Unseal it; the secret in use goes on working meanwhile.
    Sealed,
    /// The answer could not be understood. Check that the address is Vault's or OpenBao's and no proxy answers for it.
    Unexpected,
    /// The server could not be reached, or failed inside. Look at the network and at the server; attempts go on.
    Unreachable,
}

/// Whose failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Party {
    /// A setting of this process.
    Configuration,
    /// The database.
    Database,
    /// A file, such as the service account's JWT.
    File,
    /// The service that Vault asks before it believes a login: the issuer of the JWT, Kubernetes' API server, a directory.
    Issuer,
    /// Vault or OpenBao, or the way to it.
    Vault,
}

impl Error {
    /// Makes an error. The message must hold nothing secret; it names the path, the file or the setting.
    pub fn new(kind: ErrorKind, party: Party, message: impl Into<String>) -> Self {
        Self { kind, party, message: message.into(), retry_after: None, unanswered: false }
    }

    /// Adds how long the server asked us to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Says that the request was sent and that no answer came, or none that can be used: the server may have carried it
    /// out.
    #[must_use]
    pub fn unanswered(mut self) -> Self {
        self.unanswered = true;
        self
    }

    /// Takes back what [`unanswered`](Self::unanswered) says, for a request that makes nothing: a read of what is there
    /// anyway may be repeated as often as one likes.
    ///
    /// ```
    /// use leasehold_core::{Error, ErrorKind, Party};
    ///
    /// let error = Error::new(ErrorKind::Unreachable, Party::Vault, "no answer").unanswered();
    /// assert!(error.may_have_been_carried_out());
    /// assert!(!error.leaving_nothing().may_have_been_carried_out());
    /// ```
    #[must_use]
    pub fn leaving_nothing(mut self) -> Self {
        self.unanswered = false;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whose failure it was.
    pub fn party(&self) -> Party {
        self.party
    }

    /// What went wrong, in words, without the party.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How long the server asked us to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the server may have carried out what was asked: the request was sent, and no answer came that tells. A proxy
    /// that gave up, a failure inside the server and an answer that cannot be read are such. An issue may then have left a
    /// lease, and a login a token, that nobody knows of.
    pub fn may_have_been_carried_out(&self) -> bool {
        self.unanswered
    }

    /// Whether the same request may succeed later without anybody changing a setting.
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }
}

impl ErrorKind {
    /// Whether the same request may succeed later without anybody changing a setting. A keeper goes on trying in any
    /// case, only more slowly: an operator may mend what it cannot.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::DatabaseFull
            | Self::DatabaseUnavailable
            | Self::LoginDoubtful
            | Self::NotReplicated
            | Self::NotYet
            | Self::RateLimited
            | Self::RenewalFailed
            | Self::Sealed
            | Self::Unexpected
            | Self::Unreachable => true,
            Self::Closed
            | Self::Configuration
            | Self::CredentialsRefused
            | Self::DeadToken
            | Self::Denied
            | Self::LeaseGone
            | Self::LoginLapsed
            | Self::LoginRefused
            | Self::NotFound
            | Self::NotRenewable
            | Self::Redirected => false,
        }
    }

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Configuration => "configuration",
            Self::CredentialsRefused => "credentials_refused",
            Self::DatabaseFull => "database_full",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::DeadToken => "dead_token",
            Self::Denied => "denied",
            Self::LeaseGone => "lease_gone",
            Self::LoginDoubtful => "login_doubtful",
            Self::LoginLapsed => "login_lapsed",
            Self::LoginRefused => "login_refused",
            Self::NotFound => "not_found",
            Self::NotReplicated => "not_replicated",
            Self::NotRenewable => "not_renewable",
            Self::NotYet => "not_yet",
            Self::RateLimited => "rate_limited",
            Self::Redirected => "redirected",
            Self::RenewalFailed => "renewal_failed",
            Self::Sealed => "sealed",
            Self::Unexpected => "unexpected",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.party, self.message)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::Database => "database",
            Self::File => "file",
            Self::Issuer => "the issuer behind Vault",
            Self::Vault => "Vault",
        })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Error {}
