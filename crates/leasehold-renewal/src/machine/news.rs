//! News about the secret in force that no request was made for: reports of users, the provider's, and a jump of time.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation};

use super::{
    Command, Machine, Made, Pace, Phase, Turn,
    event::Told,
    holding::{Doubt, Renewal, Trouble},
    pace::MOMENT,
    reasons::Reason,
    schedule,
};

impl Machine {
    pub(super) fn rejected(&mut self, generation: Generation, cause: ErrorKind, turn: &mut Turn) {
        let now = turn.now;
        let Phase::Holding(holding) = &mut self.phase else { return };
        if generation != holding.generation || Pace::may_be_unknown(holding.issued_at, cause, now) {
            return;
        }
        let dead = cause == ErrorKind::DeadToken
            && !holding.reasons.has_any(&[Reason::ReportedDead, Reason::FoundDead]);
        let asks_already = matches!(holding.doubt, Some(Doubt::Refused { .. }));
        // A token that is reported dead is a stronger reason than a question that nobody has answered.
        if asks_already && !dead {
            return;
        }
        if holding.reasons.is_pressing() && !dead {
            return;
        }
        if holding.reasons.has(Reason::Rejected) && !dead {
            // The replacement waits for its turn, and the secret may really die meanwhile: to a pool that could use it
            // that makes a difference.
            let waits = holding.reasons.at(Reason::Rejected).is_some_and(|at| at > now + MOMENT);
            if waits && holding.renewal != Renewal::Impossible && self.pace.may_look(now, Duration::ZERO) {
                holding.doubt = Some(Doubt::Refused { at: now + MOMENT });
            }
            return;
        }
        turn.out.push(Command::Tell(generation, Told::Rejected { cause }));
        // It was tried slowly for want of a reason to hurry, or because nobody answered. A user whom the server told that the token
        // is dead has been answered, so the server can be reached.
        let hurries =
            |trouble: Trouble| !trouble.kind.is_retryable() || dead && trouble.retry_after.is_none();
        if holding.trouble.is_some_and(hurries) {
            holding.trouble = None;
        }
        if self.pace.should_verify(generation, cause) && holding.renewal != Renewal::Impossible {
            holding.doubt = Some(Doubt::Refused { at: now + MOMENT });
            return;
        }
        let reason = if cause == ErrorKind::DeadToken { Reason::ReportedDead } else { Reason::Rejected };
        // A read costs nobody anything, and nobody announces the next change of a secret that is only read.
        let ttl = holding.usual_ttl().filter(|_| holding.terms.made == Made::ForUs);
        let at = self.pace.rejections.next_replacement(now, ttl);
        holding.reasons.add(reason, at.max(now + MOMENT));
        if holding.reasons.is_pressing() {
            holding.doubt = None;
        }
    }

    pub(super) fn changed(&mut self, turn: &Turn) {
        let is_issuing = self.hands.issuing.is_some();
        let Phase::Holding(holding) = &mut self.phase else { return };
        if turn.now < holding.listens_for_changes_from(is_issuing, &self.pace) {
            return;
        }
        holding.reasons.add(Reason::Changed, turn.now + MOMENT);
        holding.begin_anew();
        self.pace.changes.hear(turn.now, holding.usual_ttl());
    }

    pub(super) fn time_jumped(&mut self, turn: &Turn) {
        let Phase::Holding(holding) = &mut self.phase else { return };
        let ttl = holding.grant.ttl.unwrap_or_default();
        let is_news = holding.doubt.is_none() && !holding.reasons.is_pressing();
        if self.pace.may_look(turn.now, ttl) && is_news && holding.renewal != Renewal::Impossible {
            holding.doubt = Some(Doubt::TimeJumped { at: schedule::look_at(turn.now, holding.draw) });
        }
    }
}
