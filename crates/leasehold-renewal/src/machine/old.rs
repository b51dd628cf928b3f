//! The generations before the current one: in use, then revoked.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation, clock::Moment};

use super::{
    AskedFor, Authority, Command, Failure, Granted, Line, Machine, Phase, Seen, Terms, TokenSeen, Turn,
    event::Told,
    holding::Holding,
    pace::{self, LONGEST_WAIT, Once, SPACING},
    reasons::Reason,
    schedule::needs_an_operator,
};

/// A superseded generation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Old {
    pub(super) generation: Generation,
    /// The end of its own lease.
    pub(super) end: Moment,
    /// The end of its lease or of its token, as known when it was superseded.
    usable_until: Moment,
    /// The latest end that a renewal without an answer may have given it.
    may_end: Moment,
    increment: Duration,
    policy: PolicyOf,
    state: OldState,
}

/// How far the end of a superseded generation is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OldState {
    /// Somebody uses it.
    InUse { last_renewal: LastRenewal },
    /// It is to be revoked at `at`, after so many attempts in vain.
    Due { at: Moment, failures: u32 },
}

/// A superseded lease is renewed once more where that can gain time: it is all the time that its users have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastRenewal {
    Due,
    Done,
}

/// Whether the policy lets a token revoke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Revoker {
    /// The policy that does not, and until when that is believed: remembered, so that each lease does not cost two requests,
    /// and not for ever, because somebody may mend the policy while the token lives on.
    forbidden: Option<(PolicyOf, Moment)>,
    said: Once,
}

/// The token that a policy belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolicyOf {
    /// A token that is revoked with itself.
    Token(Generation),
    /// The token above a lease, or the provider's own means.
    TokenAbove(Option<Generation>),
}

impl Default for Revoker {
    fn default() -> Self {
        Self { forbidden: None, said: Once::Unsaid }
    }
}

impl Revoker {
    fn forbids(&self, policy: PolicyOf, now: Moment) -> bool {
        self.forbidden.is_some_and(|(forbids, until)| forbids == policy && now < until)
    }
}

impl PolicyOf {
    fn of(generation: Generation, terms: &Terms, token: Option<TokenSeen>) -> Self {
        match terms.revoked_with {
            Authority::Itself => Self::Token(generation),
            Authority::TokenAbove => Self::TokenAbove(token.map(|token| token.generation)),
        }
    }
}

impl Old {
    pub(super) fn superseded(before: &Holding, now: Moment) -> Self {
        use Reason::{FoundDead, Gone, ReportedDead, TokenSuperseded};
        let reasons = &before.reasons;
        let asked = reasons.has(TokenSuperseded) && !reasons.has_any(&[FoundDead, ReportedDead, Gone]);
        let can_gain =
            before.is_renewed_at(now) && !before.token_is_the_limit() && now < before.usable_until();
        let last_renewal = if asked && can_gain { LastRenewal::Due } else { LastRenewal::Done };
        Self { state: OldState::InUse { last_renewal }, ..Self::in_use(before) }
    }

    pub(super) fn in_use(before: &Holding) -> Self {
        Self {
            generation: before.generation,
            end: before.grant.end,
            usable_until: before.usable_until(),
            may_end: before.may_end,
            increment: before.terms.increment,
            policy: PolicyOf::of(before.generation, &before.terms, before.token),
            state: OldState::InUse { last_renewal: LastRenewal::Done },
        }
    }

    /// A grant that nobody was handed.
    pub(super) fn unused(generation: Generation, granted: &Granted, sent: Moment, at: Moment) -> Self {
        let state = OldState::Due { at, failures: 0 };
        let end = granted.terms.ttl.map_or(Moment::NEVER, |ttl| sent + ttl);
        let policy = PolicyOf::of(generation, &granted.terms, granted.token);
        Self { generation, end, usable_until: end, may_end: end, increment: Duration::ZERO, policy, state }
    }

    pub(super) fn is_due(&self) -> bool {
        matches!(self.state, OldState::Due { .. })
    }

    pub(super) fn usable_until(&self) -> Moment {
        self.usable_until
    }

    pub(super) fn may_live_longer(&mut self, now: Moment) {
        self.may_end = self.may_end.max(now + self.increment);
    }

    /// Makes it due, if it is not.
    pub(super) fn let_go(&mut self, at: Moment) {
        if !self.is_due() {
            self.state = OldState::Due { at, failures: 0 };
        }
    }

    /// Makes it due at once, and forgets its failures.
    pub(super) fn hurry(&mut self, now: Moment) {
        if self.is_due() {
            self.state = OldState::Due { at: now, failures: 0 };
        }
    }

    fn due_at(&self) -> Option<Moment> {
        match self.state {
            OldState::Due { at, .. } => Some(at),
            OldState::InUse { .. } => None,
        }
    }
}

impl Machine {
    pub(super) fn let_go(&mut self, generation: Generation, turn: &mut Turn) {
        let Some(old) = self.old.iter_mut().find(|old| old.generation == generation) else { return };
        old.let_go(turn.now);
        let renewing = self.hands.renewing.filter(|asked| asked.generation == generation);
        if renewing.is_some() {
            self.give_up_renewing(turn);
        }
    }

    pub(super) fn next_last_renewal(&self) -> Moment {
        let due = |old: &Old| old.state == OldState::InUse { last_renewal: LastRenewal::Due };
        let wanted = self.hands.renewing.is_none()
            && matches!(self.phase, Phase::Holding(_))
            && self.old.iter().any(due);
        if wanted { self.pace.last_request + SPACING } else { Moment::NEVER }
    }

    pub(super) fn renew_for_the_last_time(&mut self, turn: &mut Turn) {
        let due = OldState::InUse { last_renewal: LastRenewal::Due };
        while self.next_last_renewal() <= turn.now {
            let Some(old) = self.old.iter_mut().find(|old| old.state == due) else { return };
            old.state = OldState::InUse { last_renewal: LastRenewal::Done };
            if turn.now < old.usable_until {
                let bound = pace::patience(turn.now.until(old.usable_until));
                let generation = old.generation;
                self.renew(generation, bound, turn);
            }
        }
    }

    pub(super) fn renewed_for_the_last_time(&mut self, asked: AskedFor, ttl: Duration, turn: &mut Turn) {
        let Some(old) = self.old.iter_mut().find(|old| old.generation == asked.generation) else { return };
        old.end = old.end.max(asked.sent + ttl);
        old.may_end = old.may_end.max(old.end);
        turn.out.push(Command::MoveEnd { generation: old.generation, end: old.end });
    }

    pub(super) fn not_renewed_for_the_last_time(&mut self, _asked: AskedFor, turn: &mut Turn) {
        turn.say(Line::NotRenewedForDraining);
    }

    pub(super) fn next_revocation(&self) -> Moment {
        if self.hands.revoking.is_some() {
            return Moment::NEVER;
        }
        self.old.iter().filter_map(Old::due_at).min().unwrap_or(Moment::NEVER)
    }

    /// Sends the revocation that is due first, and forgets those that need none.
    pub(super) fn revoke(&mut self, seen: &Seen, turn: &mut Turn) {
        while self.hands.revoking.is_none() {
            let due =
                self.old.iter().enumerate().filter_map(|(index, old)| Some((old.due_at()?, index))).min();
            let Some((_, index)) = due.filter(|(at, _)| *at <= turn.now) else { return };
            let old = self.old[index];
            let generation = old.generation;
            let token = seen
                .old_tokens
                .iter()
                .find(|(of, _)| *of == generation)
                .map_or(Moment::NEVER, |(_, end)| *end);
            if old.end.max(old.may_end).min(token) <= turn.now {
                turn.say(Line::EndedByItself(generation));
                self.forget(index, None, turn);
            } else if self.revoker.forbids(old.policy, turn.now) {
                self.forget(index, Some(Told::Revoked { alone: false }), turn);
            } else if self.is_too_late(turn.now) {
                return;
            } else {
                let id = self.id();
                self.hands.revoking = Some(AskedFor { id, sent: turn.now, generation });
                let bound = self.patience(turn.now);
                turn.out.push(Command::Revoke { id, generation, bound });
            }
        }
    }

    fn patience(&self, now: Moment) -> Duration {
        match &self.phase {
            Phase::Holding(holding) => holding.patience(now),
            Phase::Ending(ending) => now.until(ending.deadline()).min(LONGEST_WAIT),
            Phase::Starting(_) | Phase::Over => LONGEST_WAIT,
        }
    }

    pub(super) fn revoked(&mut self, id: super::Id, ours: bool, turn: &mut Turn) {
        let Some(asked) = self.hands.revoking.take_if(|asked| asked.id == id) else { return };
        self.done_with(asked, ours.then_some(Told::Revoked { alone: true }), turn);
    }

    pub(super) fn revocation_failed(&mut self, asked: AskedFor, failure: Failure, turn: &mut Turn) {
        let with_its_token = Some(Told::Revoked { alone: false });
        match failure.kind {
            // With a dead token every lease issued under it is gone.
            ErrorKind::LeaseGone | ErrorKind::DeadToken => self.done_with(asked, with_its_token, turn),
            ErrorKind::Denied => {
                let old = self.old.iter().find(|old| old.generation == asked.generation);
                let until = turn.now + LONGEST_WAIT_FOR_AN_OPERATOR;
                self.revoker.forbidden = old.map(|old| (old.policy, until));
                if self.revoker.said.say() {
                    turn.say(Line::NotAllowedToRevoke);
                }
                self.done_with(asked, with_its_token, turn);
            }
            _ => self.try_to_revoke_again(asked, failure, turn),
        }
    }

    fn done_with(&mut self, asked: AskedFor, told: Option<Told>, turn: &mut Turn) {
        if let Some(index) = self.old.iter().position(|old| old.generation == asked.generation) {
            self.forget(index, told, turn);
        }
    }

    fn forget(&mut self, index: usize, told: Option<Told>, turn: &mut Turn) {
        let generation = self.old.remove(index).generation;
        turn.out.extend(told.map(|told| Command::Tell(generation, told)));
        turn.out.push(Command::Forget(generation));
    }

    fn try_to_revoke_again(&mut self, asked: AskedFor, failure: Failure, turn: &mut Turn) {
        let hopeless = needs_an_operator(failure.kind);
        let longest = if hopeless { LONGEST_WAIT_FOR_AN_OPERATOR } else { LONGEST_BETWEEN };
        let Some(old) = self.old.iter_mut().find(|old| old.generation == asked.generation) else { return };
        let OldState::Due { failures, .. } = old.state else { return };
        let wait =
            longest.min(FIRST_WAIT.saturating_mul(1 << failures.min(11))).mul_f64(1.0 - 0.5 * turn.draw);
        let wait = wait.max(failure.retry_after.unwrap_or_default().min(LONGEST_WAIT_FOR_AN_OPERATOR));
        let at = turn.now + wait;
        old.state = OldState::Due { at, failures: failures.saturating_add(1) };
        let generation = asked.generation;
        turn.say(if failures == 0 && hopeless {
            Line::RevocationNeedsAnOperator { generation, wait }
        } else {
            Line::NotRevokedYet { generation, wait }
        });
        if concerns_all(failure.kind) {
            // The next request would meet the same. This one comes behind the others, which may fare better.
            for other in self.old.iter_mut().filter(|other| other.generation != generation) {
                if let OldState::Due { at: due, .. } = &mut other.state {
                    *due = (*due).max(at.earlier(Duration::from_millis(1)));
                }
            }
        }
    }
}

/// Whether a failure is the server's, or the way's to it, and not that of one lease.
fn concerns_all(kind: ErrorKind) -> bool {
    use ErrorKind::{RateLimited, Redirected, Sealed, Unreachable};
    matches!(kind, RateLimited | Redirected | Sealed | Unreachable)
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_BETWEEN: Duration = Duration::from_secs(30);
const LONGEST_WAIT_FOR_AN_OPERATOR: Duration = Duration::from_secs(600);

#[cfg(test)]
mod canonical;
