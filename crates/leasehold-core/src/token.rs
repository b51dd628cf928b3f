//! A Vault token. It is a leased secret like any other.

use std::fmt;

use secrecy::SecretString;

use crate::Uses;

/// A token, and what one must know to end it properly.
///
/// ```
/// use leasehold_core::{Token, TokenKind};
///
/// let given = Token::new("hvs.abc".to_owned());
/// assert!(!given.revocable(), "we never revoke a token that we were given");
/// let ours = given.with_kind(TokenKind::Service).owned(true);
/// assert!(ours.revocable());
/// assert!(!format!("{ours:?}").contains("hvs.abc"));
/// ```
#[derive(Clone)]
pub struct Token {
    value: SecretString,
    accessor: Option<String>,
    kind: TokenKind,
    owned: bool,
    uses: Option<Uses>,
}

/// How the server keeps a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenKind {
    /// Kept by the server: it can be renewed and revoked, and its leases end with it.
    #[default]
    Service,
    /// Carries everything in itself: it can be neither renewed nor revoked, and caps its leases to its own rest.
    Batch,
}

impl Token {
    /// A service token that was given to us: it is used and renewed, but never revoked.
    pub fn new(value: impl Into<SecretString>) -> Self {
        Self { value: value.into(), accessor: None, kind: TokenKind::Service, owned: false, uses: None }
    }

    /// Sets the name by which the server speaks of the token; it opens nothing.
    #[must_use]
    pub fn with_accessor(mut self, accessor: impl Into<String>) -> Self {
        self.accessor = Some(accessor.into()).filter(|accessor| !accessor.is_empty());
        self
    }

    /// Sets how the server keeps the token.
    #[must_use]
    pub fn with_kind(mut self, kind: TokenKind) -> Self {
        self.kind = kind;
        self
    }

    /// Says whether we logged in for this token, so that it is ours to revoke.
    #[must_use]
    pub fn owned(mut self, owned: bool) -> Self {
        self.owned = owned;
        self
    }

    /// Says how often it may be used, where that is limited.
    #[must_use]
    pub fn with_uses(mut self, uses: Option<Uses>) -> Self {
        self.uses = uses;
        self
    }

    /// The token itself.
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    /// The name by which the server speaks of the token, if it gave one.
    pub fn accessor(&self) -> Option<&str> {
        self.accessor.as_deref()
    }

    /// How the server keeps the token.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// How often it may still be used; `None` if that is not limited.
    pub fn uses(&self) -> Option<&Uses> {
        self.uses.as_ref()
    }

    /// Whether its next use is its last, or was: with that it ends, and whatever was issued under it.
    pub fn is_used_up(&self) -> bool {
        self.uses.as_ref().is_some_and(|uses| uses.left() <= 1)
    }

    /// Whether revoking it is ours to do and something the server can do.
    pub fn revocable(&self) -> bool {
        self.owned && self.kind == TokenKind::Service
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("accessor", &self.accessor)
            .field("kind", &self.kind)
            .field("owned", &self.owned)
            .field("uses_left", &self.uses.as_ref().map(Uses::left))
            .finish_non_exhaustive()
    }
}
