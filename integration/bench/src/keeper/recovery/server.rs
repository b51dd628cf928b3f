//! A server that serves so many requests in a second, lets so many wait, and lets the rest time out or refuses it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Grant, Issued, Lease, Party, Provider, Record, Renewed, Result,
    Revoked, Token, async_trait,
    clock::{Clock as _, Moment, TestClock, sleep_until},
};

/// Where requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Logins and issues each have a queue of their own.
    Each,
    /// They wait in one queue, so that many logins keep issues out.
    Shared,
}

/// What becomes of a request that finds the queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// Nobody answers it.
    TimesOut,
    /// It is answered with a 429, and with the time to wait if there is one.
    Refuses(Option<Duration>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) rate: f64,
    pub(super) queued: usize,
    pub(super) queue: Queue,
    pub(super) overflow: Overflow,
}

/// What the server did since everything died.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    /// The requests that were sent to it.
    pub(super) asked: u64,
    /// The logins and issues that it served.
    pub(super) all: u64,
    /// Those among them whose client had gone.
    pub(super) wasted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Login,
    Issue,
    /// A renewal or a revocation: next to the others it costs nothing, but it needs room all the same.
    Small,
}

pub(super) struct Server {
    pub(super) clock: Arc<TestClock>,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Every token has a number; those up to this one are dead, and what hangs from them.
    dead: u64,
    last: u64,
    /// Whether the limits hold: they do not before everything dies.
    limited: bool,
    /// When the logins and the issues that were let in will all have been served.
    busy_until: [Option<Moment>; 2],
    served: Served,
}

impl Server {
    pub(super) fn new(clock: Arc<TestClock>, limits: Limits) -> Self {
        Self { clock, limits, state: Mutex::default() }
    }

    pub(super) fn everything_dies(&self) {
        let mut state = self.state();
        state.dead = state.last;
        (state.limited, state.served) = (true, Served::default());
    }

    pub(super) fn served(&self) -> Served {
        self.state().served
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one's turn, as long as a client does.
    async fn enter(&self, kind: Kind, token: Option<u64>) -> Result<()> {
        let Some(done) = self.let_in(kind, token) else { return Err(self.turned_away().await) };
        let asked = self.clock.now();
        if done <= asked {
            return self.check(token);
        }
        let mut client = Client { server: self, waits: true };
        if asked.until(done) > TIMEOUT {
            sleep_until(&*self.clock, asked + TIMEOUT).await;
            return Err(no_answer());
        }
        sleep_until(&*self.clock, done).await;
        client.waits = false;
        self.check(token)
    }

    fn check(&self, token: Option<u64>) -> Result<()> {
        let dead = token.is_some_and(|token| token <= self.state().dead);
        if dead { Err(error(ErrorKind::DeadToken)) } else { Ok(()) }
    }

    /// When the request will have been served, or nothing if there is no room for it.
    fn let_in(&self, kind: Kind, token: Option<u64>) -> Option<Moment> {
        let (now, Limits { rate, queued, queue, .. }) = (self.clock.now(), self.limits);
        let mut state = self.state();
        if !state.limited {
            return Some(now);
        }
        state.served.asked += 1;
        let waiting = state.busy_until.map(|until| now.until(until.unwrap_or(now)).as_secs_f64() * rate);
        let ahead = match (queue, kind) {
            (Queue::Shared, _) => waiting.iter().sum(),
            (Queue::Each, Kind::Login) => waiting[0],
            (Queue::Each, Kind::Issue | Kind::Small) => waiting[1],
        };
        if ahead >= queued as f64 {
            return None;
        }
        let dead = token.is_some_and(|token| token <= state.dead);
        if dead || kind == Kind::Small {
            return Some(now);
        }
        state.served.all += 1;
        let until = &mut state.busy_until[usize::from(kind == Kind::Issue)];
        let done = until.unwrap_or(now).max(now) + Duration::from_secs_f64(1.0 / rate);
        *until = Some(done);
        Some(done)
    }

    async fn turned_away(&self) -> Error {
        match self.limits.overflow {
            Overflow::TimesOut => {
                sleep_until(&*self.clock, self.clock.now() + TIMEOUT).await;
                no_answer()
            }
            Overflow::Refuses(wait) => error(ErrorKind::RateLimited).with_retry_after(wait),
        }
    }

    fn number(&self) -> u64 {
        let mut state = self.state();
        state.last += 1;
        state.last
    }
}

/// A client that waits for its answer. If it goes before that, its request is served for nobody.
struct Client<'a> {
    server: &'a Server,
    waits: bool,
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.server.state().served.wasted += 1;
        }
    }
}

/// Logs in.
pub(super) struct Login {
    pub(super) server: Arc<Server>,
}

#[async_trait]
impl Provider for Login {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.server.enter(Kind::Login, None).await?;
        let number = self.server.number().to_string();
        let lease = Lease::new("", HOUR, true);
        Ok(Grant::new(Token::new(number.clone()).with_accessor(number).owned(true), lease))
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.server.enter(Kind::Small, number_of(of.secret())).await?;
        Ok(Renewed { ttl: HOUR })
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.server.enter(Kind::Small, number_of(of.secret())).await?;
        Ok(Revoked::Done)
    }

    fn name(&self) -> String {
        "auth/kubernetes/login".to_owned()
    }
}

/// Issues credentials under a token, and tells its keeper when the server calls it dead.
pub(super) struct Role {
    pub(super) server: Arc<Server>,
    pub(super) token: Current<Token>,
}

impl Role {
    async fn ask(&self, kind: Kind, token: &Issued<Token>) -> Result<()> {
        let answer = self.server.enter(kind, number_of(token.secret())).await;
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::DeadToken) {
            self.token.reject(token.generation(), ErrorKind::DeadToken);
        }
        answer
    }

    /// The lease's own token while it is usable, and then the current one.
    async fn ask_about(&self, of: &Record<Credentials>) -> Result<()> {
        let token = match of.parent() {
            Some(own) if own.usable_until() > self.server.clock.now() => Arc::clone(own),
            _ => self.token.get()?,
        };
        self.ask(Kind::Small, &token).await
    }
}

#[async_trait]
impl Provider for Role {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        let token = self.token.get()?;
        self.ask(Kind::Issue, &token).await?;
        let number = self.server.number();
        let lease = Lease::new(format!("database/creds/pipeline/{number}"), HOUR, true);
        Ok(Grant::new(Credentials::new(number.to_string(), "password".to_owned()), lease).under(token))
    }

    async fn renew(&self, of: &Record<Credentials>) -> Result<Renewed> {
        self.ask_about(of).await?;
        Ok(Renewed { ttl: HOUR })
    }

    async fn revoke(&self, of: &Record<Credentials>) -> Result<Revoked> {
        self.ask_about(of).await?;
        Ok(Revoked::Done)
    }

    fn name(&self) -> String {
        "database/creds/pipeline".to_owned()
    }
}

fn number_of(token: &Token) -> Option<u64> {
    token.accessor().and_then(|accessor| accessor.parse().ok())
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, Party::Vault, kind.to_string())
}

fn no_answer() -> Error {
    error(ErrorKind::Unreachable).unanswered()
}

/// How long the client of `leasehold-vault` waits for an answer unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
