//! When to do what: a pure function of the present, of what is known, and of a jitter drawn by the caller.
//!
//! It has no clock, does no I/O and draws no random number. A delay is never zero.

use std::time::Duration;

use leasehold_core::{ErrorKind, clock::Moment};

/// What the keeper does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the server for more time.
    Renew,
    /// Issue a successor.
    Replace,
    /// Only think again: a request could gain nothing, but what is known may have changed.
    Look,
}

/// A step and when to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long from now; never zero.
    pub delay: Duration,
    /// What to do then.
    pub step: Step,
}

/// What is known of the current secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// When the last request that was granted left.
    pub granted_at: Moment,
    /// What it granted; `None` if the secret does not end.
    pub granted: Option<Duration>,
    /// The end of its own lease.
    pub own_end: Moment,
    /// The end of the token it was issued under.
    pub parent_end: Option<Moment>,
    /// Whether a renewal can help.
    pub renewable: bool,
    /// Whether the last grant was cut to the end of the token (batch tokens do that): not *its* maximum.
    pub capped: bool,
    /// Whether to ask the server at once if it still lives, by renewing it: somebody says that it is refused.
    pub verify: bool,
    /// Whether to renew early, since time has jumped: the server's may have gone on while ours stood still.
    pub look: bool,
    /// Whether others may have been granted theirs at the same moment, as after a start or an outage of the server.
    pub in_step: bool,
    /// Why it must be replaced, if it must, and not before when.
    pub replace: Option<(Reason, Moment)>,
    /// When the last request of any kind left.
    pub last_request: Moment,
    /// The failures since the last success.
    pub failure: Option<Failure>,
    /// How often in a row the provider answered with the same secret again.
    pub unchanged: u32,
    /// How often to ask whether there is another, of a secret that does not end.
    pub poll: Option<Duration>,
}

/// Why a secret must be replaced while it still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A renewal granted less than was asked: max TTL is near.
    Truncated,
    /// The token above it has a successor.
    TokenSuperseded,
    /// Whoever uses it was told by the server that it is no token.
    Dead,
    /// Few of its uses are left.
    UsedUp,
    /// The provider has another.
    Changed,
    /// Whoever uses it says that it is refused.
    Rejected,
    /// The server says that it has ended, or cannot be renewed.
    Ended,
}

/// Failed requests since the last success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How many, at least one.
    pub count: u32,
    /// When the last one failed.
    pub at: Moment,
    /// Why.
    pub kind: ErrorKind,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether it was an issue that the server may have carried out: each such attempt can leave a lease that nobody
    /// knows of.
    pub orphaned: bool,
}

/// Decides the next step. `drain_budget` is how long the users of an old secret may need to let go of it; `jitter`,
/// in 0..1, only ever makes an attempt earlier.
pub fn next(now: Moment, known: &Known, drain_budget: Duration, jitter: f64) -> Option<Plan> {
    let jitter = jitter.clamp(0.0, 1.0);
    let (at, step) = match known.failure {
        Some(failure) => after_failure(now, known, drain_budget, failure, jitter),
        None => undisturbed(now, known, drain_budget, jitter)?,
    };
    let (at, step) = match known.keep_alive_at() {
        Some(due) if step == Step::Replace && due <= at => (due.max(now), Step::Renew),
        _ => (at, step),
    };
    // Whatever a server answers, requests keep their distance: a lease of no time at all would be a hot loop.
    let at = if step == Step::Look { at } else { at.max(known.last_request + SPACING) };
    Some(Plan { delay: now.until(at).max(FLOOR), step })
}

/// How long to wait before another attempt to obtain the very first secret, after `count` failures.
pub fn start_delay(failure: &Failure, jitter: f64) -> Duration {
    let Failure { count, kind, retry_after, .. } = *failure;
    let cap = match kind {
        _ if failure.orphaned => SLOWEST_WITH_ORPHANS,
        // Nothing was asked of anybody: the token above is not there yet.
        ErrorKind::NotYet => FIRST_BACKOFF,
        kind if needs_an_operator(kind) => SLOWEST,
        _ => SLOW / 3,
    };
    let delay = backoff(count, cap, jitter.clamp(0.0, 1.0));
    delay.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

/// Whether trying again soon cannot mend it.
pub fn needs_an_operator(kind: ErrorKind) -> bool {
    use ErrorKind::{Configuration, DeadToken, Denied, LoginRefused, NotFound, Redirected};
    matches!(kind, Configuration | DeadToken | Denied | LoginRefused | NotFound | Redirected)
}

/// When to replace what was granted less than it asked for at `sent`, and ends at `end`: at any moment that leaves the time
/// to drain. A fleet that started in the same second comes to its max TTL in the same minutes.
pub fn replace_truncated_at(sent: Moment, end: Moment, drain_budget: Duration, jitter: f64) -> Moment {
    let latest = end.earlier(drain_budget.mul_f64(MARGIN));
    sent + sent.until(latest).mul_f64(1.0 - jitter.clamp(0.0, 1.0))
}

/// How much of the budget a lease of this length can give: what a truncated grant is sure to leave. However little is
/// asked for, a successor must be issued and adopted.
pub fn drain_budget(configured: Duration, ttl: Duration) -> Duration {
    configured.max(SHORTEST_BUDGET.min(ttl / 10)).min(ttl.mul_f64(1.0 - RENEW_AT))
}

fn undisturbed(now: Moment, known: &Known, budget: Duration, jitter: f64) -> Option<(Moment, Step)> {
    let Some(not_before) = known.replacement() else { return by_plan(now, known, budget, jitter) };
    let at = now.max(not_before);
    Some(match (known.replace, by_plan(now, known, budget, jitter)) {
        // What is only read is read by plan all the same.
        (Some((Reason::Rejected, _)), Some((planned, Step::Replace))) if known.unchanged > 0 => {
            (at.min(planned), Step::Replace)
        }
        _ => (at, Step::Replace),
    })
}

fn by_plan(now: Moment, known: &Known, budget: Duration, jitter: f64) -> Option<(Moment, Step)> {
    if known.verify && known.renewable {
        return Some((now, Step::Renew));
    }
    if known.look && known.renewable {
        // A step of the wall clock reaches a whole fleet at once.
        return Some((now + LOOK_WITHIN.mul_f64(1.0 - jitter), Step::Renew));
    }
    let end = known.usable_until();
    if end == Moment::NEVER {
        let share = if known.in_step { JITTER_IN_STEP } else { JITTER };
        let at = |every: Duration| known.granted_at + every.mul_f64(1.0 - share * jitter);
        return known.poll.map(|every| (at(every), Step::Replace));
    }
    if known.token_is_the_limit() && (known.capped || !known.renewable) {
        // Nothing renewed or issued under this token outlives it. Its own keeper acts, and its successor wakes us; this
        // look is for a token that was renewed.
        let rest = now.until(end);
        let nap = if rest.is_zero() { SLOWEST } else { rest.div_f64(2.0).max(FIRST_BACKOFF) };
        return Some((now + nap, Step::Look));
    }
    let ttl = known.granted.unwrap_or_else(|| known.granted_at.until(end));
    let share = match (known.in_step, known.renewable) {
        (false, _) => JITTER,
        (true, true) => JITTER_IN_STEP,
        (true, false) => JITTER_IN_STEP_FOR_GOOD,
    };
    let early = ttl.mul_f64(share * jitter);
    if known.renewable {
        return Some(((known.granted_at + ttl.mul_f64(RENEW_AT)).earlier(early), Step::Renew));
    }
    let planned = end.earlier(drain_budget(budget, ttl).mul_f64(MARGIN)).earlier(early);
    let at = match known.unchanged {
        0 => planned,
        count => {
            let at = planned.max(known.last_request + backoff(count, SLOWEST, jitter));
            // What is replaced by the server at its end, such as a static role, is asked for again right then; and a
            // moment before, since an answer that extends it then leaves no gap in which it looks ended.
            let (before, after) = (end.earlier(SPACING * 2), end + SPACING);
            match known.last_request {
                last if last + SPACING < before => at.min(before),
                last if last < end => at.min(after),
                _ => at,
            }
        }
    };
    Some((at, Step::Replace))
}

fn after_failure(
    now: Moment,
    known: &Known,
    budget: Duration,
    failure: Failure,
    jitter: f64,
) -> (Moment, Step) {
    let end = known.usable_until();
    let ttl = known.granted.unwrap_or(SLOWEST);
    let drained_from = end.earlier(drain_budget(budget, ttl));
    let dead = failure.kind == ErrorKind::DeadToken;
    let slow = needs_an_operator(failure.kind);
    let cap = if slow && !(drained_from <= now && now < end) {
        // Slowly, but not slower than the lease itself goes by.
        SLOWEST.min(ttl.max(SLOW_FOR_SHORT))
    } else if now < drained_from {
        SLOW.min(now.until(drained_from).div_f64(3.0))
    } else if now < end {
        SLOW.min(now.until(end).div_f64(4.0))
    } else {
        // It has ended: every second without a successor is a second of refused connections.
        ttl.div_f64(4.0).clamp(Duration::from_secs(1), Duration::from_secs(10))
    };
    let wait = if failure.orphaned {
        // Each attempt may make a user that lives for a TTL: a few of them at a time, not thousands (a PostgreSQL
        // refuses grants at some 2,350 roles).
        let share = if now < end { 6 } else { 60 };
        let cap = (ttl / share).clamp(cap.min(SHORT_WITH_ORPHANS), SLOWEST_WITH_ORPHANS);
        backoff(failure.count, cap.max(FIRST_BACKOFF), jitter)
    } else if dead {
        // What can be done about it is the token's keeper's, or nobody's: its successor wakes us.
        jittered(doubled(FIRST_FOR_DEAD, failure.count).min(SLOWEST_FOR_DEAD), jitter * 0.5)
    } else {
        backoff(failure.count, cap.max(FIRST_BACKOFF), jitter)
    };
    let mut at = failure.at + wait;
    if let Some(wait) = failure.retry_after {
        at = at.max(failure.at + wait.min(LONGEST_RETRY_AFTER));
    }
    if failure.at < drained_from && !failure.orphaned {
        // However slow the pace, the time to drain begins with an attempt.
        at = at.min(drained_from);
    }
    let replacement = known.replacement();
    if let Some(not_before) = replacement {
        at = at.max(not_before);
    }
    // A renewal that keeps failing must not be tried until the deadline: a successor needs time to be adopted and the
    // old one time to drain. Twice "failed to renew entry" means that the user behind the lease is gone.
    let late = at >= drained_from && !known.token_is_the_limit();
    let renewal_is_futile = failure.kind == ErrorKind::RenewalFailed && failure.count >= 2;
    let step = if replacement.is_some() || !known.renewable || late || renewal_is_futile {
        Step::Replace
    } else {
        Step::Renew
    };
    (at, step)
}

/// Doubles from [`FIRST_BACKOFF`] to `cap`.
fn backoff(count: u32, cap: Duration, jitter: f64) -> Duration {
    jittered(doubled(FIRST_BACKOFF, count).min(cap), jitter)
}

fn doubled(first: Duration, count: u32) -> Duration {
    first.saturating_mul(1 << count.saturating_sub(1).min(16))
}

/// Full jitter, down to a floor.
fn jittered(full: Duration, jitter: f64) -> Duration {
    full - full.saturating_sub(SPACING).mul_f64(jitter)
}

impl Known {
    /// The end of its lease or of its token, whichever comes first.
    pub fn usable_until(&self) -> Moment {
        self.parent_end.map_or(self.own_end, |parent| parent.min(self.own_end))
    }

    /// The replacement that nothing comes before. One for max TTL may be hours away, and one that a bad pool asked for
    /// minutes; both wait while there is reason to ask whether the secret still lives.
    fn replacement(&self) -> Option<Moment> {
        let (reason, not_before) = self.replace?;
        let can_wait = matches!(reason, Reason::Truncated | Reason::Rejected);
        let waits = can_wait && self.renewable && (self.verify || self.look);
        (!waits).then_some(not_before)
    }

    /// When to renew what still works for others, or for now, while its successor is waited for or cannot be issued: a
    /// quota may refuse issues and allow renewals. If those fail too, they are tried in turns.
    fn keep_alive_at(&self) -> Option<Moment> {
        let (reason, _) = self.replace?;
        let alive = matches!(reason, Reason::TokenSuperseded | Reason::Rejected | Reason::Changed);
        let in_turn = self.failure.is_none_or(|failure| failure.count % 2 == 1);
        let can_gain = self.renewable && !self.capped && !self.token_is_the_limit();
        (alive && in_turn && can_gain).then_some(())?;
        self.granted.map(|ttl| self.granted_at + ttl.mul_f64(RENEW_AT))
    }

    /// Whether the token ends first, so that nothing issued under it lasts longer.
    pub fn token_is_the_limit(&self) -> bool {
        self.parent_end.is_some_and(|parent| parent != Moment::NEVER && parent <= self.own_end + SAME_END)
    }
}

/// The fraction of a grant after which it is renewed; the rest is what a truncated one is sure to leave.
const RENEW_AT: f64 = 0.6;
/// The fraction of a grant by which jitter may bring an attempt forward.
const JITTER: f64 = 0.1;
/// The same where others may be in step: the wider, the sooner a fleet that started together is spread over its TTL.
const JITTER_IN_STEP: f64 = 0.35;
/// The same for what is not renewed but replaced, which happens once in a TTL at best.
const JITTER_IN_STEP_FOR_GOOD: f64 = 0.5;
/// What is not renewable is replaced this many drain budgets before its end, so that a failed attempt is no disaster.
const MARGIN: f64 = 1.25;
/// Two ends this close together are the same end: servers count in whole seconds.
pub(crate) const SAME_END: Duration = Duration::from_secs(1);
/// How soon to ask after time has jumped.
const LOOK_WITHIN: Duration = Duration::from_millis(1500);
const FLOOR: Duration = Duration::from_millis(10);
const SPACING: Duration = Duration::from_millis(250);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(30);
/// For leases of seconds, which only tests have.
const SLOW_FOR_SHORT: Duration = Duration::from_secs(5);
const SLOWEST: Duration = Duration::from_secs(60);
/// For a dead token that nobody replaces: OpenBao's own Agent asked without a pause. Fifty requests in an hour is enough.
const FIRST_FOR_DEAD: Duration = Duration::from_secs(5);
const SLOWEST_FOR_DEAD: Duration = Duration::from_secs(900);
const SHORT_WITH_ORPHANS: Duration = Duration::from_secs(10);
const SLOWEST_WITH_ORPHANS: Duration = Duration::from_secs(600);
const SHORTEST_BUDGET: Duration = Duration::from_secs(5);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
