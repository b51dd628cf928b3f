//! Where secrets come from.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Grant, Record, Renewed, Result, Revoked};

/// A way to obtain one secret, extend it and end it.
///
/// A provider makes one attempt per call, reads no clock and never retries: the keeper that drives it does all that,
/// one call at a time. A login is a provider of tokens; a database role is a provider of credentials.
///
/// ```
/// use leasehold_core::{Grant, Lease, Provider, Record, Renewed, Result, Revoked, Token, async_trait};
///
/// struct Root;
///
/// #[async_trait]
/// impl Provider for Root {
///     type Secret = Token;
///     async fn issue(&self) -> Result<Grant<Token>> {
///         Ok(Grant::new(Token::new("root".to_owned()), Lease::endless()))
///     }
///     async fn renew(&self, _: &Record<Token>) -> Result<Renewed> { unreachable!("it does not end") }
///     async fn revoke(&self, _: &Record<Token>) -> Result<Revoked> { Ok(Revoked::NotOurs) }
///     fn name(&self) -> String { "root".to_owned() }
/// }
/// ```
#[async_trait]
pub trait Provider: Send + Sync {
    /// What it provides.
    type Secret: Send + Sync + 'static;

    /// Obtains a new secret.
    ///
    /// # Errors
    /// Any kind; the keeper keeps the secret in use and tries again at a pace that fits the kind.
    ///
    /// # Cancel safety
    /// Not cancel-safe: a grant that nobody hears of leaves a lease behind. The keeper never drops this future.
    async fn issue(&self) -> Result<Grant<Self::Secret>>;

    /// Asks for as much time again as the secret was first granted. It gets the whole record, since a lease is renewed
    /// with a token.
    ///
    /// # Errors
    /// [`LeaseGone`](crate::ErrorKind::LeaseGone) and [`NotRenewable`](crate::ErrorKind::NotRenewable) make the keeper
    /// issue a new secret, and so should [`LoginLapsed`](crate::ErrorKind::LoginLapsed) of a token, which works until its end;
    /// others are tried again while there is time.
    ///
    /// # Cancel safety
    /// Cancel-safe: the server may or may not have extended the lease.
    async fn renew(&self, of: &Record<Self::Secret>) -> Result<Renewed>;

    /// Ends a secret that nothing uses any more. What is already gone is no error, nor what is not ours to revoke.
    ///
    /// # Errors
    /// [`Denied`](crate::ErrorKind::Denied) is remembered and not tried again: the secret then ends with its token.
    ///
    /// # Cancel safety
    /// Cancel-safe: the server may or may not have revoked it.
    async fn revoke(&self, of: &Record<Self::Secret>) -> Result<Revoked>;

    /// Waits until there is another secret to be had than `of`, where that shows without asking the server: a file with
    /// another token in it. The keeper then issues at once, whatever failed before. What [`issue`](Self::issue) has
    /// tried already is no news. The default waits for ever.
    ///
    /// # Cancel safety
    /// Cancel-safe; it is dropped and called again whenever the keeper does something else.
    async fn changed(&self, of: &Record<Self::Secret>) {
        let _ = of;
        std::future::pending().await
    }

    /// What it provides, for logs, events and metrics: a path such as `database/creds/pipeline`, never a secret.
    fn name(&self) -> String;
}

macro_rules! delegate {
    ($pointer:ident) => {
        #[async_trait]
        impl<P: Provider + ?Sized> Provider for $pointer<P> {
            type Secret = P::Secret;

            async fn issue(&self) -> Result<Grant<Self::Secret>> {
                (**self).issue().await
            }

            async fn renew(&self, of: &Record<Self::Secret>) -> Result<Renewed> {
                (**self).renew(of).await
            }

            async fn revoke(&self, of: &Record<Self::Secret>) -> Result<Revoked> {
                (**self).revoke(of).await
            }

            async fn changed(&self, of: &Record<Self::Secret>) {
                (**self).changed(of).await
            }

            fn name(&self) -> String {
                (**self).name()
            }
        }
    };
}

delegate!(Box);
delegate!(Arc);
