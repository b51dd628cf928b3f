//! The oracle: it knows the truth and the public promises, and calls none of the code that it judges.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use leasehold_core::clock::Moment;
use serde::Serialize;

use crate::{
    sometimes::Sometimes,
    streams::{BASIS, hash},
    time::{Time, lock},
    truth::{Answer, Given},
    watched::InFlight,
};

pub(crate) struct Oracle {
    time: Arc<Time>,
    state: Mutex<State>,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    pub(crate) at_s: f64,
    pub(crate) about: String,
}

/// The public promises, each with a name of its own, so that a smaller plan must break the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Promise {
    /// A query fails only if its user was dead through no fault of ours.
    QueriesSucceed,
    /// A failure never displaces a secret that still works.
    NothingIsDisplaced,
    /// A lease is not revoked while somebody uses it.
    NothingInUseIsRevoked,
    /// No secret is called usable for longer than the server keeps it.
    EndsAreTrue,
    /// Each lease and each token that was issued is revoked, has ended, or is reported.
    NothingIsLeft,
    /// At most one issue, one renewal and one revocation are in flight.
    OneInFlight,
    /// Issues and renewals leave at least a quarter of a second apart.
    Spacing,
    /// No keeper asks without an end.
    FewRequests,
    /// Without faults the service is ready.
    ReadyInCalm,
    /// Long after the last fault no request fails for long.
    HealthyInCalm,
    /// A token that the server calls dead, and whose login it refuses, is not called ready.
    DeadIsNotReady,
    /// After the last fault everything is healthy within a bound.
    Heals,
    /// A role has few users, whatever happens.
    FewUsers,
    /// A pool has one session more than it has places, at most.
    FewSessions,
    /// A shut-down returns by its deadline.
    StopsInTime,
    /// Nothing panics, and no loop goes on at one moment.
    NoPanic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    Login,
    Role(usize),
}

/// The trouble that a fault is, and that excuses what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Any fault at all.
    Any,
    /// It may cost queries or lives.
    Costs,
    /// It may keep what lives from being renewed.
    Renewals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Login,
    Issue,
    /// A read of a static role, which makes nothing.
    Read,
    Renew,
    Revoke,
    LookUp,
}

/// What happened in a world, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) requests: u64,
    pub(crate) rotations: u64,
    pub(crate) queries: u64,
    /// Queries that failed though their credentials lived.
    pub(crate) failed_while_credentials_lived: u64,
    /// Queries that failed because their user was dead, or the database did not serve.
    pub(crate) failed_otherwise: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) sometimes: BTreeMap<Sometimes, u64>,
    pub(crate) most_users_of_a_role: usize,
}

#[derive(Default)]
struct State {
    counts: Counts,
    violations: Vec<Violation>,
    trace: Trace,
    last_request: BTreeMap<Actor, Moment>,
    hour: BTreeMap<Actor, (Moment, u32)>,
    /// How much trouble of each kind is under way, and when the last was.
    troubles: [(u32, Option<Moment>); 3],
    dead: Option<Dead>,
    in_flight: BTreeMap<Actor, Arc<InFlight>>,
}

/// A token that the server has called dead.
struct Dead {
    token: String,
    /// When a login was refused since.
    refused: Vec<Moment>,
}

/// The story so far: its hash always, its text if it was asked for.
struct Trace {
    hash: u64,
    text: Option<String>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: BASIS, text: None }
    }
}

impl Oracle {
    pub(crate) fn new(time: Arc<Time>, with_text: bool) -> Arc<Self> {
        let mut state = State::default();
        state.trace.text = with_text.then(String::new);
        Arc::new(Self { time, state: Mutex::new(state) })
    }

    /// Writes a line of the story.
    pub(crate) fn tell(&self, line: fmt::Arguments<'_>) {
        let mut state = lock(&self.state);
        state.counts.steps += 1;
        let text = format!("{:>14.3}  {line}\n", self.time.seconds());
        state.trace.hash = hash(text.as_bytes(), state.trace.hash);
        if let Some(story) = &mut state.trace.text {
            story.push_str(&text);
        }
    }

    pub(crate) fn violated(&self, promise: Promise, about: fmt::Arguments<'_>) {
        self.tell(format_args!("VIOLATION of {promise:?}: {about}"));
        let mut state = lock(&self.state);
        if state.violations.len() < MOST_VIOLATIONS {
            let (at_s, about) = (self.time.seconds(), about.to_string());
            state.violations.push(Violation { promise, at_s, about });
        }
    }

    pub(crate) fn sometimes(&self, what: Sometimes) {
        *lock(&self.state).counts.sometimes.entry(what).or_default() += 1;
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.state).counts);
    }

    /// Trouble begins or ends.
    pub(crate) fn trouble(&self, of: Trouble, is_on: bool) {
        let now = self.time.now();
        let (count, until) = &mut lock(&self.state).troubles[of as usize];
        *count = if is_on { *count + 1 } else { *count - 1 };
        *until = Some(if *count > 0 { Moment::NEVER } else { now });
    }

    /// Whether there was trouble that may cost something at `since` or after it.
    pub(crate) fn was_in_trouble(&self, since: Moment) -> bool {
        self.was_in(Trouble::Costs, since)
    }

    /// Whether there was such trouble at `since` or after it.
    pub(crate) fn was_in(&self, of: Trouble, since: Moment) -> bool {
        lock(&self.state).troubles[of as usize].1.is_some_and(|until| until >= since)
    }

    /// An answer has reached the service.
    pub(crate) fn heard(&self, asked: Asked, token: &str, status: u16) {
        let rare = match (asked, status) {
            (Asked::Login, 403) => Some(Sometimes::LoginRefused),
            (Asked::Issue, 403) => Some(Sometimes::IssueUnderDeadToken),
            (Asked::Read, 403) => Some(Sometimes::ReadUnderDeadToken),
            (Asked::Renew, 400) => Some(Sometimes::LeaseIsGone),
            (Asked::Renew, 403) => Some(Sometimes::RenewalForbidden),
            (Asked::Revoke, 403) => Some(Sometimes::RevocationForbidden),
            _ => None,
        };
        rare.into_iter().for_each(|rare| self.sometimes(rare));
        let now = self.time.now();
        let dead = &mut lock(&self.state).dead;
        match (asked, status, &mut *dead) {
            (Asked::LookUp, 403, Some(dead)) if dead.token == token => {}
            (Asked::LookUp, 403, _) => *dead = Some(Dead { token: token.to_owned(), refused: Vec::new() }),
            (Asked::Login, 200, _) => *dead = None,
            (Asked::Login, 403, Some(dead)) => dead.refused.push(now),
            _ => {}
        }
    }

    /// Whether the server has called this token dead, and refused more than one login before `since`: the first may have left
    /// before anybody told the keeper.
    pub(crate) fn is_dead_and_refused(&self, token: &str, since: Moment) -> bool {
        let state = lock(&self.state);
        let dead = state.dead.as_ref().filter(|dead| dead.token == token);
        dead.and_then(|dead| dead.refused.get(1)).is_some_and(|at| *at <= since)
    }

    pub(crate) fn request(&self, actor: Actor, asked: Asked) {
        self.tell(format_args!("{actor} asks: {asked:?}"));
        let now = self.time.now();
        let mut state = lock(&self.state);
        state.counts.requests += 1;
        let (since, count) = state.hour.entry(actor).or_insert((now, 0));
        if *since + HOUR < now {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let too_many = (*count == MOST_AN_HOUR).then_some(*count);
        drop(state);
        if let Some(count) = too_many {
            self.violated(Promise::FewRequests, format_args!("{actor} asked {count} times within an hour"));
        }
    }

    /// A keeper starts, which knows nothing of the one before it.
    pub(crate) fn is_new(&self, actor: Actor, in_flight: Arc<InFlight>) {
        let mut state = lock(&self.state);
        state.last_request.remove(&actor);
        state.in_flight.insert(actor, in_flight);
    }

    /// A keeper is told to stop.
    pub(crate) fn stops(&self, actor: Actor) {
        let state = lock(&self.state);
        let Some(in_flight) = state.in_flight.get(&actor).cloned() else { return };
        drop(state);
        let rare =
            [Sometimes::StopDuringIssue, Sometimes::StopDuringRenewal, Sometimes::StopDuringRevocation];
        let met = rare.into_iter().zip(&*in_flight).filter(|(_, count)| count.load(Ordering::Relaxed) > 0);
        met.for_each(|(rare, _)| self.sometimes(rare));
    }

    /// A keeper has its provider issue or renew.
    pub(crate) fn begins(&self, actor: Actor, asked: Asked) {
        let now = self.time.now();
        let last = lock(&self.state).last_request.insert(actor, now);
        if let Some(gap) = last.map(|last| last.until(now)).filter(|gap| *gap < SPACING) {
            self.violated(Promise::Spacing, format_args!("{actor} asks again after {gap:?}: {asked:?}"));
        }
    }

    pub(crate) fn carried_out(&self, actor: Actor, asked: Asked, answer: &Answer, given: &Given) {
        self.tell(format_args!("{actor} is answered {}: {asked:?}, {given:?}", answer.0));
    }

    pub(crate) fn lost(&self, actor: Actor, asked: Asked) {
        self.tell(format_args!("the answer to {actor} is lost: {asked:?}"));
        self.sometimes(match asked {
            Asked::Login | Asked::Issue => Sometimes::IssueLost,
            Asked::Renew => Sometimes::RenewalLost,
            Asked::Revoke => Sometimes::RevocationLost,
            Asked::Read | Asked::LookUp => Sometimes::ReadLost,
        });
    }

    pub(crate) fn finish(&self) -> (Counts, Vec<Violation>, u64, String) {
        let mut state = lock(&self.state);
        let text = state.trace.text.take().unwrap_or_default();
        (state.counts.clone(), state.violations.clone(), state.trace.hash, text)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login => f.write_str("the login"),
            Self::Role(role) => write!(f, "role {role}"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3} s: {}", self.promise, self.at_s, self.about)
    }
}

/// A line for each thing that was counted.
pub(crate) fn lines<K: fmt::Display>(counted: &BTreeMap<K, u64>) -> String {
    counted.iter().fold(String::new(), |mut text, (name, count)| {
        let _ = writeln!(text, "  {name}: {count}");
        text
    })
}

const MOST_VIOLATIONS: usize = 20;
const SPACING: Duration = Duration::from_millis(250);
const HOUR: Duration = Duration::from_secs(3_600);
/// A renewal, an issue, a revocation and their repetitions for a lease of ten seconds.
const MOST_AN_HOUR: u32 = 3_000;
