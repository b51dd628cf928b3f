//! The answers to issues and renewals, and their effect on the secret in force.

use std::time::Duration;

use leasehold_core::{ErrorKind, clock::Moment};

use super::{
    AskedFor, Carried, Command, Failure, Granted, Id, Line, Machine, Made, Phase, Turn,
    event::Told,
    holding::{Doubt, Failing, Grant, Holding, Renewal, Spread},
    old::Old,
    pace::{MOMENT, Once, Policy},
    reasons::Reason,
    schedule::{self, SAME_END},
};

impl Machine {
    pub(super) fn granted(&mut self, id: Id, granted: Granted, turn: &mut Turn) {
        let Some(asked) = self.hands.issuing.take_if(|asked| asked.id == id) else { return };
        match &mut self.phase {
            Phase::Starting(_) => self.first(granted, asked.sent, turn),
            Phase::Holding(holding) if granted.same => {
                holding.is_the_same_again(granted, asked.sent, turn);
                self.recovered(turn);
            }
            Phase::Holding(_) => self.succeed(granted, asked.sent, turn),
            Phase::Ending(_) | Phase::Over => self.came_too_late(granted, asked.sent, turn),
        }
    }

    fn first(&mut self, granted: Granted, sent: Moment, turn: &mut Turn) {
        let generation = self.next_generation();
        turn.out.push(Command::Publish { generation, sent });
        turn.say(Line::Issued { because: None });
        self.pace.budget.adapt(granted.terms.usual_ttl());
        self.phase = Phase::Holding(Holding::new(generation, granted, sent, turn.draw));
        self.recovered(turn);
        turn.out.push(Command::Started);
    }

    /// Publishes the successor of the current secret.
    fn succeed(&mut self, granted: Granted, sent: Moment, turn: &mut Turn) {
        self.give_up_renewing_current(turn);
        let generation = self.next_generation();
        let Phase::Holding(holding) = &mut self.phase else { return };
        turn.out.push(Command::Publish { generation, sent });
        let because = holding.reasons.highest();
        turn.say(Line::Issued { because });
        let mut next = Holding::new(generation, granted, sent, turn.draw);
        if holding.reasons.has_none_but(Reason::Truncated) {
            // Issues that go by plan were spread already.
            next.grant.spread = Spread::Usual;
        }
        if next.grant.ttl == Some(Duration::ZERO) {
            next.same_again = holding.same_again.saturating_add(1);
        }
        let before = std::mem::replace(holding, next);
        self.pace.budget.adapt(granted.terms.usual_ttl());
        if granted.terms.made == Made::ByOthers {
            // Nothing was made for us, and the refused one is another matter: the next may be read at once.
            self.pace.rejections = crate::rejections::Rejections::default();
        } else if before.reasons.cost_budget() {
            self.pace.budget.spend(sent);
        }
        self.pace.over_budget = Once::Unsaid;
        if because.is_none() && before.trouble.is_some_and(|trouble| trouble.kind == ErrorKind::Denied) {
            self.renewals_are_denied(turn);
        }
        self.recovered(turn);
        self.old.push(Old::superseded(&before, turn.now));
    }

    fn renewals_are_denied(&mut self, turn: &mut Turn) {
        if std::mem::replace(&mut self.pace.renewals, Policy::Denies) == Policy::Allows {
            turn.say(Line::RenewalsDenied);
        }
    }

    fn recovered(&mut self, turn: &mut Turn) {
        if let Phase::Holding(holding) = &self.phase {
            turn.out.push(Command::Recovered(holding.generation));
        }
    }

    pub(super) fn renewed(&mut self, id: Id, ttl: Duration, turn: &mut Turn) {
        let Some(asked) = self.hands.renewing.take_if(|asked| asked.id == id) else { return };
        match &mut self.phase {
            Phase::Holding(holding) if holding.generation == asked.generation => {
                let is_well = holding.renewed(ttl, asked.sent, &self.rules, turn);
                self.pace.renewals = Policy::Allows;
                if is_well {
                    self.recovered(turn);
                }
            }
            _ => self.renewed_for_the_last_time(asked, ttl, turn),
        }
    }

    pub(super) fn failed(&mut self, id: Id, failure: Failure, turn: &mut Turn) {
        if self.hands.issuing.take_if(|asked| asked.id == id).is_some() {
            match &self.phase {
                Phase::Starting(_) => self.start_failed(failure, turn),
                Phase::Holding(_) => self.issue_failed(failure, turn),
                Phase::Ending(_) | Phase::Over => {}
            }
        } else if let Some(asked) = self.hands.renewing.take_if(|asked| asked.id == id) {
            self.renewal_failed(asked, failure, turn);
        } else if let Some(asked) = self.hands.revoking.take_if(|asked| asked.id == id) {
            self.revocation_failed(asked, failure, turn);
        }
    }

    fn issue_failed(&mut self, failure: Failure, turn: &mut Turn) {
        if failure.carried == Carried::Maybe {
            turn.say(Line::MayHaveLeftALease);
        }
        let Phase::Holding(holding) = &mut self.phase else { return };
        holding.draw = turn.draw;
        holding.fail(Failing::Issues, failure, turn.now);
        // A poll that fails is no reason to replace: its secret does not end, and the next poll comes anyway.
        if holding.terms.poll.is_none() && holding.reasons.is_empty() {
            holding.reasons.add(Reason::GaveUpRenewing, turn.now);
        }
        // A report alone ends no token, because a token that may not look itself up only looks dead, and has its
        // successor at once. If the login is refused as well, the death is believed: the token ends now, with
        // everything that was issued under it, and readiness says so.
        let dead = holding.reasons.has_any(&[Reason::ReportedDead, Reason::FoundDead]);
        if dead && (!failure.kind.is_retryable() || failure.kind == ErrorKind::LoginDoubtful) {
            turn.out.push(Command::PresumeDead(holding.generation));
        }
        self.tell_failure(turn);
    }

    fn renewal_failed(&mut self, asked: AskedFor, failure: Failure, turn: &mut Turn) {
        if failure.carried == Carried::Maybe {
            self.may_live_longer(asked.generation, turn.now);
        }
        let Phase::Holding(holding) = &mut self.phase else {
            return self.not_renewed_for_the_last_time(asked, turn);
        };
        if holding.generation != asked.generation {
            return self.not_renewed_for_the_last_time(asked, turn);
        }
        let now = turn.now;
        holding.draw = turn.draw;
        let verified = matches!(holding.doubt, Some(Doubt::Refused { .. }));
        match failure.kind {
            ErrorKind::LeaseGone | ErrorKind::DeadToken => {
                let gone = failure.kind == ErrorKind::LeaseGone;
                if gone {
                    holding.grant.end = holding.grant.end.min(now);
                    holding.may_end = holding.grant.end;
                    let (generation, end) = (holding.generation, holding.grant.end);
                    turn.out.push(Command::MoveEnd { generation, end });
                }
                holding.reasons.add(if gone { Reason::Gone } else { Reason::FoundDead }, now + MOMENT);
                holding.begin_anew();
                if !gone && holding.token.is_some() {
                    // Nothing can be issued under a dead token. Its keeper knows too, and its successor is an event.
                    holding.fail(Failing::Renewals, failure, now);
                }
            }
            // The token works until its end, and only a new login goes beyond that.
            ErrorKind::LoginLapsed => {
                holding.renewal = Renewal::Impossible;
                holding.reasons.add(Reason::LoginLapsed, now + MOMENT);
                holding.begin_anew();
            }
            // The question cannot be answered: that counts as a no.
            kind if verified && (kind == ErrorKind::RenewalFailed || !kind.is_retryable()) => {
                let at = holding.reasons.at(Reason::Rejected);
                let at =
                    at.unwrap_or_else(|| self.pace.rejections.next_replacement(now, holding.usual_ttl()));
                holding.reasons.add(Reason::Rejected, at.max(now + MOMENT));
                (holding.trouble, holding.doubt) = (None, None);
            }
            kind if kind == ErrorKind::NotRenewable
                || (kind == ErrorKind::Denied && self.pace.renewals == Policy::Denies) =>
            {
                turn.say(Line::CannotBeRenewed);
                (holding.renewal, holding.doubt) = (Renewal::Impossible, None);
                if holding.reasons.has_none_but(Reason::Truncated) {
                    // A fact, not trouble: it is replaced before its end.
                    holding.trouble = None;
                    self.recovered(turn);
                }
                return;
            }
            _ => holding.fail(Failing::Renewals, failure, now),
        }
        self.tell_failure(turn);
    }

    fn tell_failure(&mut self, turn: &mut Turn) {
        let next = self.next_request().map_or(turn.now, |(at, _)| at);
        let Phase::Holding(holding) = &self.phase else { return };
        let left = turn.now.until(holding.usable_until());
        let grave = left < self.rules.drain_budget.min(holding.usual_ttl().unwrap_or_default() / 2);
        let generation = holding.generation;
        turn.out.push(Command::Failed { generation, retry_in: turn.now.until(next), grave });
    }
}

impl Holding {
    /// The provider answered with this very secret again.
    fn is_the_same_again(&mut self, granted: Granted, sent: Moment, turn: &mut Turn) {
        turn.out.push(Command::Extend { sent });
        let because = self.reasons.highest();
        let anew = Self::new(self.generation, granted, sent, turn.draw);
        *self = Self {
            issued_at: self.issued_at,
            terms: self.terms,
            grant: Grant { spread: Spread::Usual, ..anew.grant },
            renewal: if self.reasons.has(Reason::Truncated) { Renewal::Impossible } else { self.renewal },
            same_again: self.same_again.saturating_add(1),
            may_end: self.may_end.max(anew.may_end),
            rotates_at: self.rotates_at,
            told_not_rotated: self.told_not_rotated,
            ..anew
        };
        self.note_rotation(turn);
        let ends = because.filter(|reason| !matches!(reason, Reason::Changed | Reason::TokenSuperseded));
        if let Some(because) = ends {
            turn.say(Line::SameAgain { because });
        }
    }

    /// Notes when the server is to replace a secret that is only read, and tells once that it has not.
    fn note_rotation(&mut self, turn: &mut Turn) {
        if self.terms.made != Made::ByOthers {
            return;
        }
        if self.grant.ttl.is_none_or(|ttl| ttl > LONGEST_LATE_ROTATION) {
            (self.rotates_at, self.told_not_rotated) = (self.grant.end, Once::Unsaid);
        }
        let overdue = self.rotates_at.until(turn.now);
        if overdue > LONGEST_LATE_ROTATION && self.told_not_rotated.say() {
            turn.say(Line::NotRotated { overdue });
            turn.out.push(Command::Tell(self.generation, Told::NotRotated { overdue }));
        }
    }

    /// Returns whether no failure is left.
    fn renewed(&mut self, ttl: Duration, sent: Moment, rules: &super::Rules, turn: &mut Turn) -> bool {
        let truncated = ttl < self.terms.increment;
        self.draw = turn.draw;
        let jumped = matches!(self.doubt, Some(Doubt::TimeJumped { .. }));
        turn.out.push(Command::Tell(self.generation, Told::Renewed { ttl, truncated }));
        if truncated && self.doubt.is_some() && self.trouble.is_none() && self.ends_as_before(sent + ttl) {
            // Asked before its time, max TTL says nothing about when to replace it. It may end a little later than was known.
            self.doubt = None;
            self.may_end = self.may_end.max(sent + ttl);
            return true;
        }
        if !ttl.is_zero() {
            (self.grant.sent, self.grant.ttl, self.grant.end) = (sent, Some(ttl), sent + ttl);
            self.may_end = self.grant.end;
            turn.out.push(Command::MoveEnd { generation: self.generation, end: self.grant.end });
        }
        // An outage that ends, and a clock that jumps, put a whole fleet in step.
        let in_step = self.trouble.is_some() || jumped;
        self.grant.spread = if in_step { Spread::InStep } else { Spread::Usual };
        self.doubt = None;
        if self.renewal != Renewal::Impossible {
            let cut = truncated && self.was_cut_to_its_token();
            self.renewal = if cut { Renewal::CutToItsToken } else { Renewal::Possible };
        }
        let settled = self.reasons.has_none_but(Reason::Truncated);
        if truncated && self.renewal != Renewal::CutToItsToken && settled {
            let budget = schedule::drain_budget(rules.drain_budget, self.usual_ttl().unwrap_or_default());
            // By its own end: if its token ends first, nothing that is issued under that token lasts longer.
            let at = schedule::replace_truncated_at(sent, self.grant.end, budget, self.draw);
            self.reasons.postpone(Reason::Truncated, at.max(turn.now + MOMENT));
        }
        let of_renewals = self.trouble.is_some_and(|trouble| trouble.of == Failing::Renewals);
        // Where renewals had failed and an issue with them, that issue may succeed as well now: it is tried at once.
        if settled || of_renewals || self.reasons.has_none_but(Reason::GaveUpRenewing) {
            self.trouble = None;
        }
        self.trouble.is_none()
    }

    fn ends_as_before(&self, end: Moment) -> bool {
        let known = self.grant.end;
        known.until(end).max(end.until(known)) <= SAME_END
    }
}

/// A server replaces a password up to five seconds after the moment that it announced; this is more than late.
const LONGEST_LATE_ROTATION: Duration = Duration::from_secs(30);
