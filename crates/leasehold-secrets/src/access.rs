//! The server, and the token in use: what every provider asks with.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use leasehold_core::{
    Answer, Body, Current, Error, ErrorKind, Fields, Generation, Grant, Issued, Lease, Party, Record,
    Renewed, Result, Revoked, Token, Vault,
};

/// What to ask for.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// What to write there; `None` reads.
    pub(crate) body: Option<Body>,
}

impl Request {
    pub(crate) fn read(path: impl Into<String>) -> Self {
        Self { path: path.into(), body: None }
    }
}

pub(crate) struct Access {
    vault: Arc<dyn Vault>,
    token: Current<Token>,
    /// Which token the last answer said is dead.
    dead: Mutex<Option<Generation>>,
}

impl Access {
    pub(crate) fn new(vault: Arc<dyn Vault>, token: Current<Token>) -> Self {
        Self { vault, token, dead: Mutex::default() }
    }

    /// Obtains what has a lease under the token in use.
    pub(crate) async fn issue<S>(
        &self,
        request: &Request,
        first_ttl: Option<Duration>,
        secret_of: impl FnOnce(&Fields) -> Result<S>,
    ) -> Result<Grant<S>> {
        let token = self.token.get()?;
        if token.secret().is_used_up() {
            *self.dead() = Some(token.generation());
            return Err(self.report_dead(&token, used_up()));
        }
        let answer = self.ask(&token, request).await?;
        if answer.lease().id().is_empty() {
            let error = no_lease(&request.path);
            // A proxy may have left nothing of the answer.
            let says_nothing = answer.data().names().next().is_none();
            return Err(if says_nothing { error.unanswered() } else { error });
        }
        match secret_of(answer.data()) {
            Ok(secret) => {
                let lease = self.cut(token.secret(), answer.lease().clone(), first_ttl).await;
                // A role may name all its users alike; then they end together.
                let user = answer.data().text("username").ok().filter(|user| !user.is_empty());
                let lease = lease.naming(user.unwrap_or_else(|| answer.lease().id()));
                Ok(Grant::new(secret, lease).under(token))
            }
            Err(error) => {
                // The lease is there all the same: a role that issues a key and no password has made its user by now.
                Err(self.given_back(token.secret(), answer.lease(), at(&request.path, &error)).await)
            }
        }
    }

    pub(crate) async fn renew<S>(&self, of: &Record<S>) -> Result<Renewed> {
        let token = self.authority(of)?;
        if token.secret().is_used_up() {
            let message = "its token has one use left, with which the lease would end";
            return Err(Error::new(ErrorKind::NotRenewable, Party::Vault, message));
        }
        let increment = of.lease().increment();
        let renewed = self.vault.renew_lease(token.secret(), of.lease().id(), increment).await;
        renewed.map_err(|error| self.report_dead(&token, error))
    }

    pub(crate) async fn revoke<S>(&self, of: &Record<S>) -> Result<Revoked> {
        if of.lease().id().is_empty() {
            return Ok(Revoked::NotOurs);
        }
        let token = self.authority(of)?;
        if token.secret().is_used_up() {
            // The token would end, and with it whatever else was issued under it and is still in use.
            let message = "the token to revoke it with has one use left, and has no successor yet";
            return Err(Error::new(ErrorKind::NotYet, Party::Vault, message));
        }
        self.vault.revoke_lease(token.secret(), of.lease().id()).await.map(|()| Revoked::Done)
    }

    /// The token for reading what outlives it.
    pub(crate) fn token(&self) -> Result<Arc<Issued<Token>>> {
        let token = self.token.get()?;
        // Not a dead token, which is asked for ever more slowly: the grant hangs from no token, so no successor wakes its
        // keeper.
        let not_yet = |message: &str| Err(Error::new(ErrorKind::NotYet, Party::Vault, message));
        if token.usable_until() <= self.token.clock().now() {
            return not_yet("the token to read it with has ended, and has no successor yet");
        }
        if token.secret().is_used_up() {
            // With its last use it would end, and everything that is leased under it.
            self.token.reject(token.generation(), ErrorKind::DeadToken);
            return not_yet("the token to read it with has one use left, and has no successor yet");
        }
        Ok(token)
    }

    /// Waits until there is another token than the one that the last answer said is dead. A dead one is asked with ever more
    /// slowly, and the keeper hears of a successor only if the secret in use hangs from that token: a static role's hangs from
    /// none, and where an outage outlasts several tokens, an issue is refused under one that the keeper does not know.
    pub(crate) async fn revived(&self) {
        let dead = *self.dead();
        let mut newer = self.token.clone();
        loop {
            match (dead, self.token.get()) {
                (Some(dead), Ok(token)) if token.generation() != dead => return,
                (Some(_), Ok(_)) if newer.changed().await.is_ok() => {}
                _ => std::future::pending().await,
            }
        }
    }

    fn dead(&self) -> MutexGuard<'_, Option<Generation>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn current(&self) -> &Current<Token> {
        &self.token
    }

    /// Makes one request. A dead token is the token's keeper's business too: it logs in again.
    pub(crate) async fn ask(&self, token: &Issued<Token>, request: &Request) -> Result<Answer> {
        let answer = match &request.body {
            None => self.vault.read(token.secret(), &request.path).await,
            Some(body) => self.vault.write(token.secret(), &request.path, body.clone()).await,
        };
        let is_dead = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::DeadToken);
        *self.dead() = is_dead.then(|| token.generation());
        answer.map_err(|error| self.report_dead(token, error))
    }

    /// Ends a lease that cannot be used, and that nobody else will ever know of. The error then tells if it is left behind.
    pub(crate) async fn given_back(&self, token: &Token, lease: &Lease, error: Error) -> Error {
        // Without an id nothing can end it; and the last use of the token would end what others hold, and this with the token.
        if lease.id().is_empty() || token.is_used_up() {
            return error.unanswered();
        }
        match self.vault.revoke_lease(token, lease.id()).await {
            Ok(()) => error,
            Err(left) if matches!(left.kind(), ErrorKind::LeaseGone | ErrorKind::DeadToken) => error,
            Err(left) => {
                let message = format!(
                    "{}; what was issued could not be given back: {}",
                    error.message(),
                    left.message()
                );
                Error::new(error.kind(), error.party(), message)
                    .with_retry_after(left.retry_after())
                    .unanswered()
            }
        }
    }

    async fn cut(&self, token: &Token, lease: Lease, first_ttl: Option<Duration>) -> Lease {
        let (Some(first), Some(ttl)) = (first_ttl, lease.ttl()) else { return lease };
        if first >= ttl || !lease.renewable() || token.is_used_up() {
            return lease;
        }
        let short = match self.vault.renew_lease(token, lease.id(), first).await {
            Ok(Renewed { ttl: short }) if !short.is_zero() => short,
            // If the server did it and that was not heard, the lease ends early; if it did not, a renewal comes early.
            Ok(_) => first,
            Err(error) if error.may_have_been_carried_out() => first,
            // It is a precaution: without it the lease is as long as its role says.
            Err(_) => return lease,
        };
        Lease::new(lease.id(), short.min(ttl), true).asking_for(ttl)
    }

    /// The token for renewing and revoking: the lease's own while it is usable, since it is sure to be allowed to;
    /// afterwards, and if it has one use left, the current one.
    fn authority<S>(&self, of: &Record<S>) -> Result<Arc<Issued<Token>>> {
        let now = self.token.clock().now();
        match of.parent() {
            Some(own) if own.usable_until() > now && !own.secret().is_used_up() => Ok(Arc::clone(own)),
            _ => self.token.get(),
        }
    }

    fn report_dead(&self, token: &Issued<Token>, error: Error) -> Error {
        if error.kind() == ErrorKind::DeadToken {
            self.token.reject(token.generation(), ErrorKind::DeadToken);
        }
        error
    }
}

/// Another user of the same token, which has asked for nothing yet.
impl Clone for Access {
    fn clone(&self) -> Self {
        Self::new(self.vault.clone(), self.token.clone())
    }
}

/// Says where it was that something did not fit.
pub(crate) fn at(path: &str, error: &Error) -> Error {
    Error::new(error.kind(), error.party(), format!("{path}: {}", error.message()))
}

/// A mount as it is in a path, however it was written.
pub(crate) fn trimmed(path: &str) -> String {
    path.trim_matches('/').to_owned()
}

/// The answer to a renewal of what has no lease.
pub(crate) fn not_renewable(why: &str) -> Error {
    Error::new(ErrorKind::NotRenewable, Party::Vault, why)
}

fn used_up() -> Error {
    let message = "the token has one use left, and what is issued with that ends at once: log in with a role whose \
                   token_num_uses is 0";
    Error::new(ErrorKind::DeadToken, Party::Vault, message)
}

fn no_lease(path: &str) -> Error {
    let message = format!(
        "{path} answers without a lease, so nothing tells when it ends: an entry of the kv engine is read with `Kv`, a \
         static role with `StaticRole`, a certificate with `Pki`"
    );
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}
