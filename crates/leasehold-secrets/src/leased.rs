//! Whatever else is lent.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use leasehold_core::{
    Body, Current, Grant, Provider, Record, Renewed, Result, Revoked, Token, Vault, async_trait,
};
use serde::de::DeserializeOwned;

use crate::access::{Access, Request, trimmed};

/// A secret of any engine that gives it a lease, read as a type of yours.
///
/// The lease is renewed, replaced and revoked as that of a [`DatabaseRole`](crate::DatabaseRole). RabbitMQ's users are
/// [`Credentials`](leasehold_core::Credentials); those of AWS, of LDAP, of Consul or Nomad are what their engines' pages
/// say. Fields that are secret should be [`SecretString`](leasehold_core::SecretString)s, which no `Debug` shows.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::{Current, SecretString, Token, Vault};
/// use leasehold_secrets::Leased;
///
/// #[derive(serde::Deserialize)]
/// struct Consul {
///     token: SecretString,
/// }
///
/// # fn example(vault: Arc<dyn Vault>, token: Current<Token>) {
/// let role = Leased::<Consul>::read(vault, token, "consul/creds/pipeline");
/// # }
/// ```
pub struct Leased<T> {
    access: Access,
    request: Request,
    first_ttl: Option<Duration>,
    secret: PhantomData<fn() -> T>,
}

impl<T> Leased<T> {
    /// What is read at `path`, with whatever token is current.
    pub fn read(vault: Arc<dyn Vault>, token: Current<Token>, path: &str) -> Self {
        Self::asked(vault, token, Request::read(trimmed(path)))
    }

    /// What is answered to a write at `path`: some engines want to be told something.
    pub fn write(vault: Arc<dyn Vault>, token: Current<Token>, path: &str, body: Body) -> Self {
        Self::asked(vault, token, Request { path: trimmed(path), body: Some(body) })
    }

    fn asked(vault: Arc<dyn Vault>, token: Current<Token>, request: Request) -> Self {
        Self { access: Access::new(vault, token), request, first_ttl: None, secret: PhantomData }
    }

    /// As [`DatabaseRole::first_ttl`](crate::DatabaseRole::first_ttl).
    #[must_use]
    pub fn first_ttl(mut self, ttl: Duration) -> Self {
        self.first_ttl = Some(ttl);
        self
    }
}

#[async_trait]
impl<T: DeserializeOwned + Send + Sync + 'static> Provider for Leased<T> {
    type Secret = T;

    async fn issue(&self) -> Result<Grant<T>> {
        self.access.issue(&self.request, self.first_ttl, |data| data.decode()).await
    }

    async fn renew(&self, of: &Record<T>) -> Result<Renewed> {
        self.access.renew(of).await
    }

    async fn revoke(&self, of: &Record<T>) -> Result<Revoked> {
        self.access.revoke(of).await
    }

    async fn changed(&self, _: &Record<T>) {
        self.access.revived().await
    }

    fn name(&self) -> String {
        self.request.path.clone()
    }
}

impl<T> Clone for Leased<T> {
    fn clone(&self) -> Self {
        let (access, request) = (self.access.clone(), self.request.clone());
        Self { access, request, first_ttl: self.first_ttl, secret: PhantomData }
    }
}

impl<T> fmt::Debug for Leased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("path", &self.request.path).finish_non_exhaustive()
    }
}
