//! What a provider asks of Vault.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Fields, Lease, Party, Renewed, Result, Token, TokenKind};

/// Requests to Vault or OpenBao: one attempt each, the token an argument, so that one client is shared freely.
///
/// `leasehold-vault` implements it; the three required methods are enough for another client.
///
/// # Errors
/// All methods fail with the kinds of [`ErrorKind`]. A 403 costs the implementation one `lookup-self`, to tell
/// [`DeadToken`](ErrorKind::DeadToken) from [`Denied`](ErrorKind::Denied), which the server does not.
///
/// # Cancel safety
/// Dropping a future abandons the answer; the server may have carried the request out.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Writes to a login path, such as `auth/kubernetes/login`, without a token.
    async fn login(&self, path: &str, body: Body) -> Result<Answer>;

    /// Reads a path, such as `database/creds/pipeline`.
    async fn read(&self, token: &Token, path: &str) -> Result<Answer>;

    /// Writes to a path.
    async fn write(&self, token: &Token, path: &str, body: Body) -> Result<Answer>;

    /// Extends a lease; `increment` counts from now.
    async fn renew_lease(&self, token: &Token, lease_id: &str, increment: Duration) -> Result<Renewed> {
        let body = Body::new().text("lease_id", lease_id).number("increment", increment.as_secs());
        let answer = self.write(token, "sys/leases/renew", body).await?;
        Ok(Renewed { ttl: answer.lease().ttl().unwrap_or(Duration::ZERO) })
    }

    /// Revokes a lease. The server queues it: "revoked" does not yet mean that the user is gone.
    async fn revoke_lease(&self, token: &Token, lease_id: &str) -> Result<()> {
        self.write(token, "sys/leases/revoke", Body::new().text("lease_id", lease_id)).await.map(drop)
    }

    /// Extends a token; `increment` counts from now.
    async fn renew_token(&self, token: &Token, increment: Duration) -> Result<Renewed> {
        let body = Body::new().number("increment", increment.as_secs());
        let answer = self.write(token, "auth/token/renew-self", body).await?;
        Ok(Renewed { ttl: answer.auth().and_then(|auth| auth.lease().ttl()).unwrap_or(Duration::ZERO) })
    }

    /// Revokes a token, and with it every lease issued under it.
    async fn revoke_token(&self, token: &Token) -> Result<()> {
        self.write(token, "auth/token/revoke-self", Body::new()).await.map(drop)
    }

    /// Takes what a wrapping token holds, which can be done once.
    ///
    /// # Errors
    /// [`LoginRefused`](ErrorKind::LoginRefused) if the token has expired, or was used before: then somebody else has
    /// what was meant for us. Other attempts fail with the kinds of any request, and may be made again.
    async fn unwrap(&self, wrapping: &Token) -> Result<Answer> {
        let unwrapped = self.write(wrapping, "sys/wrapping/unwrap", Body::new()).await;
        unwrapped.map_err(|error| if is_taken(error.kind()) { taken(&error) } else { error })
    }

    /// Asks what the server knows of a token.
    async fn lookup_token(&self, token: &Token) -> Result<Answer> {
        self.read(token, "auth/token/lookup-self").await
    }
}

/// Whether the server says that there is no such wrapping token. Everything else leaves it as it is.
fn is_taken(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::LoginRefused | ErrorKind::Denied | ErrorKind::DeadToken)
}

fn taken(error: &Error) -> Error {
    let message = format!(
        "it cannot be unwrapped ({}): the wrapping token has expired, or it has been unwrapped before. Unless you know \
         by whom, treat what it held as stolen: revoke that, and have another wrapped",
        error.message()
    );
    Error::new(ErrorKind::LoginRefused, Party::Configuration, message)
}

/// The body of a write. Its `Debug` tells field names only.
///
/// ```
/// use leasehold_core::{Body, SecretString};
///
/// let body = Body::new().text("role", "pipeline").secret("jwt", &SecretString::from("eyJhb".to_owned()));
/// assert_eq!(format!("{body:?}"), r#"Body(["jwt", "role"])"#);
/// ```
#[derive(Clone, Default)]
pub struct Body(Map<String, Value>);

impl Body {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, field: &str, value: &str) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, field: &str, value: u64) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a yes or no.
    #[must_use]
    pub fn flag(mut self, field: &str, value: bool) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a secret text.
    #[must_use]
    pub fn secret(self, field: &str, value: &SecretString) -> Self {
        self.text(field, value.expose_secret())
    }

    /// The fields, for whoever puts them on the wire.
    pub fn into_fields(self) -> Map<String, Value> {
        self.0
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").field(&self.0.keys().collect::<Vec<_>>()).finish()
    }
}

/// The envelope of an answer. Its `Debug` tells field names only.
#[derive(Clone)]
pub struct Answer {
    lease: Lease,
    data: Fields,
    auth: Option<Auth>,
    warnings: Vec<String>,
}

impl Answer {
    /// Joins the parts of an envelope.
    pub fn new(lease: Lease, data: Map<String, Value>, auth: Option<Auth>, warnings: Vec<String>) -> Self {
        Self { lease, data: Fields::new(data), auth, warnings }
    }

    /// What a 204, or a 200 with an empty body, says.
    pub fn empty() -> Self {
        Self::new(Lease::endless(), Map::new(), None, Vec::new())
    }

    /// The terms; endless where the answer has none.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What it says; empty where it says nothing.
    pub fn data(&self) -> &Fields {
        &self.data
    }

    /// The token, in an answer to a login or to a renewal of a token.
    pub fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }

    /// What the server warns of: truncation, deprecation.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("lease", &self.lease)
            .field("data", &self.data)
            .field("auth", &self.auth)
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// A token that the server has just issued or renewed, with its terms.
#[derive(Clone)]
pub struct Auth {
    value: SecretString,
    accessor: String,
    kind: TokenKind,
    lease: Lease,
}

impl Auth {
    /// Joins a token and its terms.
    pub fn new(value: SecretString, accessor: String, kind: TokenKind, lease: Lease) -> Self {
        Self { value, accessor, kind, lease }
    }

    /// The terms.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The token, as one that we logged in for.
    pub fn token(&self) -> Token {
        Token::new(self.value.clone())
            .with_accessor(&self.accessor)
            .with_kind(self.kind)
            .owned(true)
            .with_uses(self.lease.uses().cloned())
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("accessor", &self.accessor)
            .field("kind", &self.kind)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let Value::Object(data) = serde_json::json!({"username": "name", "password": "hunter2", "ttl": 3})
        else {
            unreachable!()
        };
        let auth =
            Auth::new("hvs.top".to_owned().into(), "acc".to_owned(), TokenKind::Service, Lease::endless());
        Answer::new(Lease::endless(), data, Some(auth), Vec::new())
    }

    #[test]
    fn debug_tells_no_value() {
        let text = format!("{:?}", answer());
        assert!(text.contains("password") && text.contains("acc"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("hvs.top"), "{text}");
    }
}
