//! A server that grants what it is told to, at once and without a network.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, Grant, Lease, Provider, Record, Renewed, Result, Revoked, Token, async_trait,
    clock::{Clock, Moment},
};

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Issue,
    Renew,
    Revoke,
}

/// Hears of every request.
pub(crate) trait Listen: Send + Sync {
    fn heard(&self, request: Request);
}

/// How long the server grants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) renewable: bool,
}

/// The server, as every provider sees it. It keeps no leases: the id of each says when its max TTL is over.
pub(crate) struct Server {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) listener: Arc<dyn Listen>,
}

impl Server {
    fn issue(&self, path: &str, terms: Terms) -> Lease {
        self.listener.heard(Request::Issue);
        let max_end = self.clock.now() + terms.max_ttl;
        Lease::new(format!("{path}/{:024}", max_end.as_nanos()), terms.ttl, terms.renewable)
    }

    fn renew(&self, lease: &Lease, terms: Terms) -> Renewed {
        self.listener.heard(Request::Renew);
        let max_end = lease.id().rsplit('/').next().and_then(|nanos| nanos.parse().ok());
        let left = self.clock.now().until(Moment::from_nanos(max_end.unwrap_or_default()));
        Renewed { ttl: terms.ttl.min(left) }
    }
}

/// Logs in.
pub(crate) struct Login {
    pub(crate) server: Arc<Server>,
    pub(crate) terms: Terms,
}

#[async_trait]
impl Provider for Login {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let lease = self.server.issue("auth/kubernetes/login", self.terms);
        Ok(Grant::new(Token::new(text(95)).with_accessor(text(24)).owned(true), lease))
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        Ok(self.server.renew(of.lease(), self.terms))
    }

    async fn revoke(&self, _: &Record<Token>) -> Result<Revoked> {
        self.server.listener.heard(Request::Revoke);
        Ok(Revoked::Done)
    }

    fn name(&self) -> String {
        "auth/kubernetes/login".to_owned()
    }
}

/// Issues credentials under a token, as long as real ones are.
pub(crate) struct Role {
    pub(crate) server: Arc<Server>,
    pub(crate) terms: Terms,
    pub(crate) token: Current<Token>,
}

#[async_trait]
impl Provider for Role {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        let token = self.token.get()?;
        let lease = self.server.issue("database/creds/pipeline", self.terms);
        let username = format!("v-kubernet-pipeline-{}-{}", text(20), 1_700_000_000);
        Ok(Grant::new(Credentials::new(username, text(20)), lease).under(token))
    }

    async fn renew(&self, of: &Record<Credentials>) -> Result<Renewed> {
        Ok(self.server.renew(of.lease(), self.terms))
    }

    async fn revoke(&self, _: &Record<Credentials>) -> Result<Revoked> {
        self.server.listener.heard(Request::Revoke);
        Ok(Revoked::Done)
    }

    fn name(&self) -> String {
        "database/creds/pipeline".to_owned()
    }
}

/// As long as the real thing. Not random: the generator belongs to the keepers' jitter, which is to be repeatable.
fn text(length: usize) -> String {
    "x".repeat(length)
}
