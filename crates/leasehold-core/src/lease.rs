//! What a server grants, before a keeper knows it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{Issued, Token, Uses};

/// The terms on which the server lends a secret.
///
/// ```
/// # use std::time::Duration;
/// use leasehold_core::Lease;
///
/// let lease = Lease::new("database/creds/pipeline/aBcD", Duration::from_secs(3600), true);
/// assert_eq!(lease.ttl(), Some(Duration::from_secs(3600)));
/// assert_eq!(Lease::endless().ttl(), None); // a root token, for one
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    id: String,
    ttl: Option<Duration>,
    increment: Option<Duration>,
    renewable: bool,
    uses: Option<Uses>,
    poll: Option<Duration>,
    renewals_for: Option<Duration>,
    subject: Option<Box<str>>,
}

impl Lease {
    /// A lease of `ttl` from the moment it was asked for. The id is empty for tokens and static roles.
    pub fn new(id: impl Into<String>, ttl: Duration, renewable: bool) -> Self {
        Self { id: id.into(), ttl: Some(ttl), renewable, ..Self::endless() }
    }

    /// The terms of what does not end.
    pub fn endless() -> Self {
        Self {
            id: String::new(),
            ttl: None,
            increment: None,
            renewable: false,
            uses: None,
            poll: None,
            renewals_for: None,
            subject: None,
        }
    }

    /// Says how often to ask whether there is another, where nothing tells: an entry of the kv engine, which somebody may
    /// write at any moment. For what does not end.
    #[must_use]
    pub fn polled(mut self, every: Duration) -> Self {
        self.poll = Some(every);
        self
    }

    /// Sets what to ask for at each renewal, where that is not what is left of it now: a token that was given has been
    /// running for a while, and asking for its rest would shorten it for everybody who shares it.
    #[must_use]
    pub fn asking_for(mut self, increment: Duration) -> Self {
        self.increment = Some(increment);
        self
    }

    /// Says that it ends with its last use too, and is to be replaced when few are left: a token of limited uses.
    #[must_use]
    pub fn with_uses(mut self, uses: Option<Uses>) -> Self {
        self.uses = uses;
        self
    }

    /// Says for how long the server will renew it, where that is known and shorter than anything else may make it: a token
    /// whose renewals are refused as soon as the JWT that it was logged in with has expired. It is to be replaced before.
    #[must_use]
    pub fn with_renewals_for(mut self, limit: Option<Duration>) -> Self {
        self.renewals_for = limit;
        self
    }

    /// Names the thing that ends when it is revoked: the user of a database, the accessor of a token; the id of the lease, where
    /// nothing better is known. Two issues that name the same end together, whatever their ids are, and two of the same id as
    /// well are one and the same. It is shown, so it must not be secret. Without a name an issue is taken for one of its own.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use leasehold_core::Lease;
    ///
    /// let lease = Lease::new("database/creds/pipeline/aBcD", Duration::from_secs(3600), true).naming("v-pipeline");
    /// assert_eq!(lease.subject(), Some("v-pipeline"));
    /// ```
    #[must_use]
    pub fn naming(mut self, subject: &str) -> Self {
        self.subject = (!subject.is_empty()).then(|| subject.into());
        self
    }

    /// The server's name for the lease; empty where the server keeps none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long it was granted for; `None` if it does not end.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// What to ask for at each renewal: the TTL, unless something else was set.
    pub fn increment(&self) -> Duration {
        self.increment.or(self.ttl).unwrap_or_default()
    }

    /// How often it may still be used; `None` if that is not limited.
    pub fn uses(&self) -> Option<&Uses> {
        self.uses.as_ref()
    }

    /// How often to ask whether there is another; `None` if that is not to be done.
    pub fn poll(&self) -> Option<Duration> {
        self.poll
    }

    /// For how long, from when it was asked for, the server renews it; `None` if that is not known.
    pub fn renewals_for(&self) -> Option<Duration> {
        self.renewals_for
    }

    /// The name of the thing that ends when it is revoked, if it is known.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Whether both are one and the same at the server: the lease of this id, or the token of this name.
    pub(crate) fn is_same_issue(&self, other: &Self) -> bool {
        self.ends_with(other) && self.id == other.id
    }

    /// Whether both end together at the server.
    pub(crate) fn ends_with(&self, other: &Self) -> bool {
        self.subject.is_some() && self.subject == other.subject
    }

    /// Whether the server says that it can be renewed.
    pub fn renewable(&self) -> bool {
        self.renewable
    }
}

/// What a provider hands back. It knows no generation and no clock; the keeper adds both.
pub struct Grant<S> {
    /// The secret itself.
    pub secret: S,
    /// Its terms, counted from before the request left.
    pub lease: Lease,
    /// The token it was issued under, whose end is its end whatever the lease says.
    pub parent: Option<Arc<Issued<Token>>>,
    /// Equal versions are the same secret again (a static role, a token re-read from its file): such a grant extends
    /// the current generation and makes no new one. `None` is always new.
    pub version: Option<String>,
}

impl<S> Grant<S> {
    /// A grant that is always new and hangs from no token.
    pub fn new(secret: S, lease: Lease) -> Self {
        Self { secret, lease, parent: None, version: None }
    }

    /// Says which token the secret was issued under.
    #[must_use]
    pub fn under(mut self, parent: Arc<Issued<Token>>) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Says which version of the secret this is: of what is not made for us, but read, and replaced by somebody else.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }
}

impl<S> fmt::Debug for Grant<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("lease", &self.lease)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What a renewal granted, counted from before the request left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// How long from now. Less than was asked means that max TTL is near; zero means "not extended", which is how a
    /// 200 with an empty body reads (Vault #1979).
    pub ttl: Duration,
}

/// What became of a secret that was to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The server accepted to revoke it, or it was gone already.
    Done,
    /// It is left to end by itself: it was given to us, or it is of a kind that cannot be revoked.
    NotOurs,
}
