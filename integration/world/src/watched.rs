//! The real providers, watched: how many requests of a keeper are in flight, and what it was granted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use leasehold_core::{
    Credentials, ErrorKind, Grant, Provider, Record, Renewed, Result, Revoked, Token, async_trait,
};

use crate::{
    oracle::{Actor, Asked, Oracle, Promise},
    plan::What,
    sometimes::Sometimes,
    truth::Truth,
};

pub(crate) struct Watched<P> {
    provider: P,
    actor: Actor,
    truth: Arc<Truth>,
    oracle: Arc<Oracle>,
    in_flight: Arc<InFlight>,
    /// Whether the last revocation that was answered was forbidden.
    is_forbidden: AtomicBool,
}

/// How many issues, renewals and revocations of a keeper are in flight.
pub(crate) type InFlight = [AtomicU32; 3];

impl<P> Watched<P> {
    pub(crate) fn new(provider: P, actor: Actor, truth: Arc<Truth>, oracle: Arc<Oracle>) -> Self {
        let in_flight = Arc::default();
        oracle.is_new(actor, Arc::clone(&in_flight));
        Self { provider, actor, truth, oracle, in_flight, is_forbidden: AtomicBool::new(false) }
    }

    fn sets_out(&self, asked: Asked) -> OneInFlight<'_> {
        let hand = match asked {
            Asked::Renew => 1,
            Asked::Revoke => 2,
            Asked::Login | Asked::Issue | Asked::Read | Asked::LookUp => 0,
        };
        if hand != 2 {
            self.oracle.begins(self.actor, asked);
        }
        if self.in_flight[hand].fetch_add(1, Ordering::Relaxed) > 0 {
            self.oracle.violated(Promise::OneInFlight, format_args!("{}: {asked:?}", self.actor));
        }
        OneInFlight(&self.in_flight[hand])
    }

    async fn flaps(&self) {
        loop {
            let changed = self.truth.changed.notified();
            if self.truth.now().is(|what| matches!(what, What::SourceFlaps)) {
                return;
            }
            changed.await;
        }
    }
}

struct OneInFlight<'a>(&'a AtomicU32);

impl Drop for OneInFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl<P: Provider> Provider for Watched<P>
where
    P::Secret: Known,
{
    type Secret = P::Secret;

    async fn issue(&self) -> Result<Grant<P::Secret>> {
        let _in_flight = self.sets_out(Asked::Issue);
        let deaths = self.truth.now().deaths_of_tokens();
        let granted = self.provider.issue().await;
        if self.actor != Actor::Login && self.truth.now().deaths_of_tokens() > deaths {
            self.oracle.sometimes(Sometimes::TokenDiesDuringIssue);
        }
        let grant = granted?;
        self.truth.now().heard(grant.lease.id());
        Ok(grant)
    }

    async fn renew(&self, of: &Record<P::Secret>) -> Result<Renewed> {
        let _in_flight = self.sets_out(Asked::Renew);
        self.provider.renew(of).await
    }

    async fn revoke(&self, of: &Record<P::Secret>) -> Result<Revoked> {
        let _in_flight = self.sets_out(Asked::Revoke);
        let sessions = of.secret().sessions(&self.truth);
        // A static role's user goes on, so there is nothing to revoke.
        if sessions > 0 && !of.lease().id().is_empty() {
            let about =
                format_args!("{} revokes {} with {sessions} sessions open", self.actor, of.generation());
            self.oracle.violated(Promise::NothingInUseIsRevoked, about);
        }
        let told = self.provider.revoke(of).await;
        match &told {
            Err(error) if error.kind() == ErrorKind::Denied => {
                self.is_forbidden.store(true, Ordering::Relaxed)
            }
            Ok(_) if self.is_forbidden.swap(false, Ordering::Relaxed) => {
                self.oracle.sometimes(Sometimes::ForbiddenThenRevoked);
            }
            _ => {}
        }
        told
    }

    async fn changed(&self, of: &Record<P::Secret>) {
        if self.actor == Actor::Login {
            self.flaps().await;
        } else {
            self.provider.changed(of).await;
        }
    }

    fn name(&self) -> String {
        self.provider.name()
    }
}

/// A secret of which the world knows the truth.
pub(crate) trait Known {
    /// How many sessions of it are open at the database.
    fn sessions(&self, truth: &Truth) -> usize;
}

impl Known for Token {
    fn sessions(&self, _: &Truth) -> usize {
        0
    }
}

impl Known for Credentials {
    fn sessions(&self, truth: &Truth) -> usize {
        truth.now().sessions_of(self.username())
    }
}
