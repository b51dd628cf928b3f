//! The next step about the current secret, and its moment: a function of the machine's state, and not of the present.

use std::time::Duration;

use leasehold_core::{ErrorKind, clock::Moment};

use super::{
    Carried, Pace, Rules,
    crowd::{self, SHORT_WITH_ORPHANS, SLOWEST_WITH_ORPHANS, slowest_with_orphans},
    holding::{Doubt, Holding, Renewal, Spread, Trouble},
    pace::{MOMENT, SPACING, doubled},
    reasons::Reason,
};

/// A step about the current secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the server for more time.
    Renew,
    /// Issue a successor.
    Issue,
    /// Only think again: a request could gain nothing, but the token may have been renewed.
    Look,
}

/// The next step, and when it comes; `None` if nothing is to be done without an event.
pub(super) fn next(holding: &Holding, pace: &Pace, rules: &Rules) -> Option<(Moment, Step)> {
    let (at, step) = match holding.trouble {
        Some(trouble) => after_failure(holding, pace, rules, trouble),
        None => undisturbed(holding, pace, rules)?,
    };
    Some(match keep_alive_at(holding) {
        Some(due) if step == Step::Issue && due <= at => {
            // Where an issue was tried only because renewals fail, each step of the back-off is one attempt of either kind.
            let in_vain = holding.trouble.is_some() && holding.reasons.has_none_but(Reason::GaveUpRenewing);
            (if in_vain { at } else { due }, Step::Renew)
        }
        _ => (at, step),
    })
}

/// When to renew the secret while an issue has not been answered, or to ask whether the secret lives.
pub(super) fn renewal_meanwhile(holding: &Holding) -> Option<Moment> {
    let due = match holding.doubt {
        Some(Doubt::Refused { at } | Doubt::TimeJumped { at }) => at,
        None => renewable_at(holding)?,
    };
    Some(match holding.trouble {
        Some(trouble) => due.max(trouble.not_before(backoff(trouble.count, SLOW, holding.draw))),
        None => due,
    })
}

/// How long to wait before another attempt to obtain the very first secret, after `count` failures.
pub(super) fn start_delay(count: u32, failure: &super::Failure, draw: f64) -> Duration {
    let cap = match failure.kind {
        _ if failure.carried == Carried::Maybe => SLOWEST_WITH_ORPHANS,
        // Nothing was asked of anybody: the token above is not there yet.
        ErrorKind::NotYet => FIRST_BACKOFF,
        kind if needs_an_operator(kind) => SLOWEST,
        _ => SLOW / 3,
    };
    backoff(count, cap, draw).max(failure.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

/// Whether trying again soon cannot mend it.
pub(super) fn needs_an_operator(kind: ErrorKind) -> bool {
    use ErrorKind::{Configuration, DeadToken, Denied, LoginRefused, NotFound, Redirected};
    matches!(kind, Configuration | DeadToken | Denied | LoginRefused | NotFound | Redirected)
}

/// When to replace a lease that was granted less than it asked for at `sent`, and ends at `end`: at any moment that leaves the time
/// to drain. A fleet that started in the same second comes to its max TTL in the same minutes.
pub(super) fn replace_truncated_at(sent: Moment, end: Moment, drain_budget: Duration, draw: f64) -> Moment {
    let latest = end.earlier(drain_budget.mul_f64(MARGIN));
    sent + sent.until(latest).mul_f64(1.0 - draw)
}

/// How much of the budget a lease of this length can give: the time that a truncated grant is sure to leave. However little is
/// asked for, a successor must be issued and adopted.
pub(super) fn drain_budget(configured: Duration, ttl: Duration) -> Duration {
    configured.max(SHORTEST_BUDGET.min(ttl / 10)).min(ttl.mul_f64(1.0 - RENEW_AT))
}

fn undisturbed(holding: &Holding, pace: &Pace, rules: &Rules) -> Option<(Moment, Step)> {
    let Some(at) = replacement(holding, pace) else { return by_plan(holding, rules) };
    let only_rejected = holding.reasons.has_none_but(Reason::Rejected) && holding.same_again > 0;
    Some(match by_plan(holding, rules) {
        // A secret that is only read is read by plan all the same.
        Some((planned, Step::Issue)) if only_rejected => (at.min(planned), Step::Issue),
        _ => (at, Step::Issue),
    })
}

/// When the reasons say that it is to be replaced. One for max TTL may be hours away, and one that a bad pool asked for
/// minutes; both wait while there is reason to ask whether the secret still lives.
fn replacement(holding: &Holding, pace: &Pace) -> Option<Moment> {
    let due = holding.reasons.due(pace.budget.affordable_at())?;
    let may_wait = !holding.reasons.is_pressing();
    (!(may_wait && holding.doubt.is_some())).then_some(due)
}

fn by_plan(holding: &Holding, rules: &Rules) -> Option<(Moment, Step)> {
    match holding.doubt {
        Some(Doubt::Refused { at } | Doubt::TimeJumped { at }) => return Some((at, Step::Renew)),
        None => {}
    }
    let end = holding.usable_until();
    let sent = holding.grant.sent;
    if end == Moment::NEVER {
        let share = if holding.grant.spread == Spread::InStep { JITTER_IN_STEP } else { JITTER };
        let at = |every: Duration| sent + every.mul_f64(1.0 - share * holding.draw);
        return holding.terms.poll.map(|every| (at(every), Step::Issue));
    }
    let (at, step) = alone(holding, rules, end);
    if !holding.token_is_the_limit() || holding.renewal == Renewal::Possible {
        return Some((at, step));
    }
    // Nothing renewed or issued under this token outlives it. Its own keeper acts, and its successor is an event; this look is
    // for a token that was renewed. It comes when the step would: at half of the rest, a fleet would find its tokens renewed
    // in the same second.
    let rest = holding.looked_at.until(end);
    let nap = if rest.is_zero() { SLOWEST } else { rest.div_f64(2.0).max(FIRST_BACKOFF) };
    let planned = holding.looked_at < at && at < end;
    Some((if planned { at } else { holding.looked_at + nap }, Step::Look))
}

/// The step and its moment, without regard to the token.
fn alone(holding: &Holding, rules: &Rules, end: Moment) -> (Moment, Step) {
    let sent = holding.grant.sent;
    let ttl = holding.grant.ttl.unwrap_or_else(|| sent.until(end));
    let share = match (holding.grant.spread, holding.renewal) {
        (Spread::Usual, _) => JITTER,
        (Spread::InStep, Renewal::Impossible) => JITTER_IN_STEP_FOR_GOOD,
        (Spread::InStep, _) => JITTER_IN_STEP,
    };
    let early = ttl.mul_f64(share * holding.draw);
    if holding.renewal != Renewal::Impossible {
        let at = (sent + ttl.mul_f64(RENEW_AT)).earlier(early);
        // A renewal that is sure to be refused is not tried: it is replaced at that moment instead.
        let step = if holding.is_renewed_at(at) { Step::Renew } else { Step::Issue };
        return (at, step);
    }
    let planned = end.earlier(drain_budget(rules.drain_budget, ttl).mul_f64(MARGIN)).earlier(early);
    let at = match holding.same_again {
        0 => planned,
        count => {
            let last = holding.asked_at;
            let at = planned.max(last + backoff(count, SLOWEST, holding.draw));
            // A secret that the server replaces at its end, such as a static role's, is asked for again right then; and a
            // moment before, because an answer that extends it then leaves no gap in which it looks ended.
            let (before, after) = (end.earlier(SPACING * 2), end + SPACING);
            if last + SPACING < before {
                at.min(before)
            } else if last < end {
                at.min(after)
            } else {
                at
            }
        }
    };
    (at, Step::Issue)
}

fn after_failure(holding: &Holding, pace: &Pace, rules: &Rules, trouble: Trouble) -> (Moment, Step) {
    let end = holding.usable_until();
    let ttl = holding.grant.ttl.unwrap_or(SLOWEST);
    // An issue begins before readiness turns red, which it does a fifth of the TTL before the end at the earliest: a policy
    // that denies renewals and allows issues must cost nothing.
    let drained_from = end.earlier(drain_budget(rules.drain_budget, ttl).max(ttl.mul_f64(FOR_ISSUES)));
    let failed_at = trouble.at;
    let slow = needs_an_operator(trouble.kind);
    let has_died = end <= failed_at || holding.is_known_to_be_dead();
    // Every second without a successor is a second of refused connections.
    let calm = ttl.div_f64(4.0).clamp(Duration::from_secs(1), Duration::from_secs(10));
    let cap = if slow && !(drained_from <= failed_at && failed_at < end) {
        // Slowly, but not slower than the lease itself goes by.
        SLOWEST.min(ttl.max(SLOW_FOR_SHORT))
    } else if has_died {
        calm
    } else if failed_at < drained_from {
        SLOW.min(failed_at.until(drained_from).div_f64(3.0))
    } else {
        SLOW.min(failed_at.until(end).div_f64(4.0))
    };
    let wait = if has_died && crowd::is_crowded(&trouble) {
        crowd::wait(&trouble, ttl, calm, holding.draw)
    } else if trouble.carried == Carried::Maybe {
        let cap = (ttl / 6).clamp(cap.min(SHORT_WITH_ORPHANS), slowest_with_orphans(ttl));
        backoff(trouble.count, cap.max(FIRST_BACKOFF), holding.draw)
    } else if trouble.kind == ErrorKind::DeadToken {
        // Only the token's own keeper can do anything about it: its successor is an event.
        jittered(doubled(FIRST_FOR_DEAD, trouble.count).min(SLOWEST_FOR_DEAD), holding.draw * 0.5)
    } else {
        backoff(trouble.count, cap.max(FIRST_BACKOFF), holding.draw)
    };
    let mut at = trouble.not_before(wait);
    if failed_at < drained_from && trouble.carried == Carried::No {
        // However slow the pace, the time to drain begins with an attempt.
        at = at.min(drained_from);
    }
    let replacement = replacement(holding, pace);
    if let Some(due) = replacement {
        at = at.max(due);
    }
    // A renewal that keeps failing must not be tried until the deadline: a successor needs time to be adopted and the
    // old one time to drain. Twice "failed to renew entry" means that the user behind the lease is gone.
    let late = at >= drained_from && !holding.token_is_the_limit();
    let renewal_is_futile = trouble.kind == ErrorKind::RenewalFailed && trouble.count >= 2;
    let renewable = holding.is_renewed_at(at);
    let step = if replacement.is_some() || !renewable || late || renewal_is_futile {
        Step::Issue
    } else {
        Step::Renew
    };
    (at, step)
}

/// When to renew a secret that still works for others, or for now, while its successor is waited for or cannot be issued: a
/// quota may refuse issues and allow renewals. If those fail too, they are tried in turns.
fn keep_alive_at(holding: &Holding) -> Option<Moment> {
    let end = holding.usable_until();
    let in_turn = holding.trouble.is_none_or(|trouble| trouble.count % 2 == 1 && trouble.at < end);
    let due = renewable_at(holding).filter(|_| in_turn && !holding.reasons.is_empty())?;
    Some(match holding.trouble {
        Some(trouble) => due.max(trouble.not_before(Duration::ZERO)),
        None => due,
    })
}

/// When a renewal is due that could gain something, if nothing speaks against one.
fn renewable_at(holding: &Holding) -> Option<Moment> {
    use Reason::{FoundDead, Gone, ReportedDead, Truncated, UsedUp};
    let futile = holding.reasons.has_any(&[Truncated, UsedUp, ReportedDead, FoundDead, Gone]);
    let can_gain = holding.renewal == Renewal::Possible && !holding.token_is_the_limit();
    (can_gain && !futile).then_some(())?;
    let due = holding.grant.ttl.map(|ttl| holding.grant.sent + ttl.mul_f64(RENEW_AT));
    due.filter(|due| holding.is_renewed_at(*due))
}

/// Doubles from [`FIRST_BACKOFF`] to `cap`.
pub(super) fn backoff(count: u32, cap: Duration, draw: f64) -> Duration {
    jittered(doubled(FIRST_BACKOFF, count).min(cap), draw)
}

/// Full jitter, down to a floor.
pub(super) fn jittered(full: Duration, draw: f64) -> Duration {
    full - full.saturating_sub(SPACING).mul_f64(draw)
}

/// When to ask after time has jumped. A step of the wall clock reaches a whole fleet at once.
pub(super) fn look_at(now: Moment, draw: f64) -> Moment {
    now + LOOK_WITHIN.mul_f64(1.0 - draw).max(MOMENT)
}

/// The fraction of a grant after which it is renewed. A truncated grant is sure to leave the rest.
const RENEW_AT: f64 = 0.6;
/// The fraction of a grant by which jitter may bring an attempt forward.
const JITTER: f64 = 0.1;
/// The same where others may be in step: the wider, the sooner a fleet that started together is spread over its TTL.
const JITTER_IN_STEP: f64 = 0.35;
/// The same for a secret that is not renewed but replaced, which happens once in a TTL at best.
const JITTER_IN_STEP_FOR_GOOD: f64 = 0.5;
/// The fraction of a grant before its end in which renewals that fail give way to an issue.
const FOR_ISSUES: f64 = 0.25;
/// A secret that is not renewable is replaced this many drain budgets before its end, so that a failed attempt is no
/// disaster.
const MARGIN: f64 = 1.25;
/// Two ends this close together are the same end: servers count in whole seconds.
pub(super) const SAME_END: Duration = Duration::from_secs(1);
/// How soon to ask after time has jumped.
const LOOK_WITHIN: Duration = Duration::from_millis(1500);
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(30);
/// For leases of seconds, which only tests have.
const SLOW_FOR_SHORT: Duration = Duration::from_secs(5);
const SLOWEST: Duration = Duration::from_secs(60);
/// For a dead token that nobody replaces: OpenBao's own Agent asked without a pause. Fifty requests in an hour is enough.
const FIRST_FOR_DEAD: Duration = Duration::from_secs(5);
const SLOWEST_FOR_DEAD: Duration = Duration::from_secs(900);
const SHORTEST_BUDGET: Duration = Duration::from_secs(5);
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
