//! A server that keeps leases as OpenBao does, on a paused clock.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and a test may panic")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use leasehold_core::{
    Current, Error, ErrorKind, Grant, Issued, Lease, Party, Provider, Record, Renewed, Result, Revoked,
    Token, TokenKind, Uses, async_trait,
    clock::{Clock, Moment, TestClock, sleep_until},
};

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn error(kind: ErrorKind) -> Error {
    Error::new(kind, Party::Vault, format!("scripted: {kind}"))
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) parent: Option<Current<Token>>,
}

pub(crate) struct State {
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) renewable: bool,
    /// How the tokens that it issues are kept. What is issued under a batch token is cut to its rest.
    pub(crate) kind: TokenKind,
    /// How often what is issued may be used; nobody counts but the test.
    pub(crate) uses: Option<Uses>,
    /// Makes every issue the same secret again.
    pub(crate) version: Option<String>,
    /// What every request is answered with instead.
    pub(crate) down: Option<ErrorKind>,
    /// What a kind of request is answered with instead.
    pub(crate) faults: Vec<(&'static str, ErrorKind)>,
    /// How long whoever gets such an answer is asked to wait.
    pub(crate) retry_after: Option<Duration>,
    /// Whether what is issued is issued, and nobody hears of it.
    pub(crate) lost_answers: bool,
    /// The kinds of requests that are not answered while they stand here.
    pub(crate) hangs: Vec<&'static str>,
    /// Whether renewals are carried out, and nobody hears of it.
    pub(crate) lost_renewals: bool,
    /// The leases that cannot be revoked, and what each such request is answered with.
    pub(crate) stuck: Vec<(&'static str, ErrorKind)>,
    pub(crate) answer_after: Duration,
    pub(crate) requests: Vec<(Moment, &'static str)>,
    pub(crate) leases: Vec<(String, Moment)>,
    issued: u64,
}

impl Server {
    pub(crate) fn new(ttl: u64, max_ttl: u64) -> Self {
        let state = State {
            ttl: secs(ttl),
            max_ttl: secs(max_ttl),
            renewable: true,
            kind: TokenKind::Service,
            uses: None,
            version: None,
            down: None,
            faults: Vec::new(),
            retry_after: None,
            lost_answers: false,
            hangs: Vec::new(),
            lost_renewals: false,
            stuck: Vec::new(),
            answer_after: Duration::ZERO,
            requests: Vec::new(),
            leases: Vec::new(),
            issued: 0,
        };
        Self { clock: Arc::new(TestClock::new()), state: Arc::new(Mutex::new(state)), parent: None }
    }

    pub(crate) fn under(mut self, token: Current<Token>, clock: &Arc<TestClock>) -> Self {
        (self.parent, self.clock) = (Some(token), Arc::clone(clock));
        self
    }

    pub(crate) fn builder(&self) -> leasehold_renewal::Builder {
        leasehold_renewal::Builder::new().clock(self.clock.clone())
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|request| request.1 == what).count()
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    pub(crate) fn live_leases(&self) -> Vec<String> {
        let now = self.clock.now();
        let state = self.state.lock().unwrap();
        state.leases.iter().filter(|lease| lease.1 > now).map(|lease| lease.0.clone()).collect()
    }

    /// When requests of a kind came in.
    pub(crate) fn times(&self, what: &str) -> Vec<Moment> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.1 == what).map(|request| request.0).collect()
    }

    /// Waits until so many requests of a kind have come in.
    pub(crate) async fn until(&self, what: &str, count: usize) {
        while self.count(what) < count {
            self.wait(secs(1) / 10).await;
        }
    }

    /// Has the current secret replaced: it is refused, and refused again after the server was asked about it.
    pub(crate) async fn refuse(&self, current: &Current<Token>) {
        for _ in 0..2 {
            current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
            self.wait(secs(1)).await;
        }
    }

    pub(crate) async fn wait(&self, how_long: Duration) {
        sleep_until(&*self.clock, self.clock.now() + how_long).await;
    }

    async fn enter(&self, what: &'static str) -> Result<()> {
        self.set(|state| state.requests.push((self.clock.now(), what)));
        while self.state.lock().unwrap().hangs.contains(&what) {
            self.wait(secs(1) / 10).await;
        }
        let (wait, fault, retry_after) = {
            let state = self.state.lock().unwrap();
            let fault = state.faults.iter().find(|fault| fault.0 == what).map(|fault| fault.1);
            (state.answer_after, state.down.or(fault), state.retry_after)
        };
        self.wait(wait).await;
        fault.map_or(Ok(()), |kind| Err(error(kind).with_retry_after(retry_after)))
    }
}

#[async_trait]
impl Provider for Server {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.enter("issue").await?;
        let parent = self.parent.as_ref().map(Current::get).transpose()?;
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap();
        state.issued += 1;
        let id = format!("lease/{}", state.issued);
        let rest = rest_of_batch(parent.as_deref(), now);
        let max_end = now + state.max_ttl.min(rest);
        state.leases.push((id.clone(), max_end));
        if state.lost_answers {
            return Err(error(ErrorKind::Unreachable).unanswered());
        }
        let lease =
            Lease::new(id.clone(), state.ttl.min(rest), state.renewable).with_uses(state.uses.clone());
        let grant = Grant::new(Token::new(id).with_kind(state.kind).owned(true), lease);
        let grant = match &state.version {
            Some(version) => grant.version(version),
            None => grant,
        };
        Ok(match parent {
            Some(parent) => grant.under(parent),
            None => grant,
        })
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.enter("renew").await?;
        let (now, state) = (self.clock.now(), self.state.lock().unwrap());
        let Some((_, max_end)) = state.leases.iter().find(|lease| lease.0 == of.lease().id()) else {
            return Err(error(ErrorKind::LeaseGone));
        };
        if of.usable_until() < now {
            return Err(error(ErrorKind::LeaseGone));
        }
        if state.lost_renewals {
            return Err(error(ErrorKind::Unreachable).unanswered());
        }
        Ok(Renewed { ttl: state.ttl.min(now.until(*max_end)) })
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.enter("revoke").await?;
        let stuck = self.state.lock().unwrap().stuck.iter().find(|stuck| stuck.0 == of.lease().id()).copied();
        if let Some((_, kind)) = stuck {
            return Err(error(kind));
        }
        self.state.lock().unwrap().leases.retain(|lease| lease.0 != of.lease().id());
        Ok(Revoked::Done)
    }

    fn name(&self) -> String {
        "scripted".to_owned()
    }
}

/// What a batch token has left.
fn rest_of_batch(token: Option<&Issued<Token>>, now: Moment) -> Duration {
    match token {
        Some(token) if token.secret().kind() == TokenKind::Batch => now.until(token.usable_until()),
        _ => Duration::MAX,
    }
}

/// Has another secret when the test says so.
pub(crate) struct Announces {
    pub(crate) server: Server,
    pub(crate) news: Arc<tokio::sync::Notify>,
}

impl Announces {
    pub(crate) fn new(server: &Server) -> Self {
        Self { server: server.clone(), news: Arc::default() }
    }
}

#[async_trait]
impl Provider for Announces {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.server.issue().await
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.server.renew(of).await
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.server.revoke(of).await
    }

    async fn changed(&self, _: &Record<Token>) {
        self.news.notified().await;
    }

    fn name(&self) -> String {
        self.server.name()
    }
}
