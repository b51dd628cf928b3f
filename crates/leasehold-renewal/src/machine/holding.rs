//! A secret in force, as the keeper knows it.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation, clock::Moment};

use super::{
    Carried, Failure, Granted, Line, Pace, Seen, Terms, TokenSeen, Turn,
    event::{TokenCaps, TokenState},
    pace::{self, Heard, MOMENT, Once},
    reasons::{Reason, Reasons},
    schedule::{LONGEST_RETRY_AFTER, SAME_END},
};

/// The keeper's knowledge of the current secret.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Holding {
    pub(super) generation: Generation,
    /// When its issue was asked for.
    pub(super) issued_at: Moment,
    pub(super) terms: Terms,
    pub(super) grant: Grant,
    pub(super) renewal: Renewal,
    /// The latest end that a renewal without an answer may have given it.
    pub(super) may_end: Moment,
    pub(super) token: Option<TokenSeen>,
    pub(super) doubt: Option<Doubt>,
    pub(super) reasons: Reasons,
    pub(super) trouble: Option<Trouble>,
    /// How often in a row the provider answered with the same secret again.
    pub(super) same_again: u32,
    /// When somebody else was to replace it, of a secret that is only read.
    pub(super) rotates_at: Moment,
    pub(super) told_not_rotated: Once,
    /// When the last request about it left.
    pub(super) asked_at: Moment,
    /// When its token was last looked at, where nothing else could be done.
    pub(super) looked_at: Moment,
    /// Drawn once per attempt, so that thinking again does not move the attempt.
    pub(super) draw: f64,
}

/// The last grant of the current secret: its issue, or a renewal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grant {
    pub(super) sent: Moment,
    /// `None` if the secret does not end.
    pub(super) ttl: Option<Duration>,
    /// The end of its own lease.
    pub(super) end: Moment,
    pub(super) spread: Spread,
}

/// Whether others may have been granted theirs at the same moment, as after a start or an outage of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    Usual,
    InStep,
}

/// Whether a renewal can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    Possible,
    /// The last grant was cut to the end of the token, which is not *its* maximum.
    CutToItsToken,
    Impossible,
}

/// Why to ask the server whether the secret still lives, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A user says that it is refused.
    Refused { at: Moment },
    /// The server's time may have gone on while ours stood still.
    TimeJumped { at: Moment },
}

/// The failures since the last success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// How many, at least one.
    pub(super) count: u32,
    /// When the last one failed.
    pub(super) at: Moment,
    /// When the first one was sent.
    pub(super) since: Moment,
    pub(super) kind: ErrorKind,
    pub(super) retry_after: Option<Duration>,
    /// Whether the last one was an issue that the server may have carried out: each such attempt can leave a lease that
    /// nobody knows of.
    pub(super) carried: Carried,
    pub(super) of: Failing,
}

/// The requests that have failed since the last success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failing {
    /// Renewals alone: one that succeeds ends the trouble, whatever else waits.
    Renewals,
    /// An issue among them: a renewal that succeeds says nothing about the next issue.
    Issues,
}

impl Trouble {
    /// The moment after which another attempt may come: after a wait, and after the one that the server asked for.
    pub(super) fn not_before(&self, wait: Duration) -> Moment {
        self.at + wait.max(self.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
    }
}

impl Holding {
    pub(super) fn new(generation: Generation, granted: Granted, sent: Moment, draw: f64) -> Self {
        let Granted { terms, token, .. } = granted;
        let end = terms.ttl.map_or(Moment::NEVER, |ttl| sent + ttl);
        let grant = Grant { sent, ttl: terms.ttl, end, spread: Spread::InStep };
        // A lease of no time at all is not worth a renewal.
        let renewable = terms.renewable && terms.ttl != Some(Duration::ZERO);
        let renewal = if renewable { Renewal::Possible } else { Renewal::Impossible };
        let mut holding = Self {
            generation,
            issued_at: sent,
            terms,
            grant,
            renewal,
            may_end: end,
            token,
            doubt: None,
            reasons: Reasons::default(),
            trouble: None,
            same_again: 0,
            rotates_at: end,
            told_not_rotated: Once::Unsaid,
            asked_at: sent,
            looked_at: sent,
            draw,
        };
        if renewable && holding.was_cut_to_its_token() {
            holding.renewal = Renewal::CutToItsToken;
        }
        holding
    }

    /// The end of its lease or of its token, the earlier of the two.
    pub(super) fn usable_until(&self) -> Moment {
        self.token.map_or(self.grant.end, |token| token.end.min(self.grant.end))
    }

    /// Whether the token ends first, so that nothing issued under it lasts longer.
    pub(super) fn token_is_the_limit(&self) -> bool {
        self.token.is_some_and(|token| token.end != Moment::NEVER && token.end <= self.grant.end + SAME_END)
    }

    /// Whether its last grant ends where its token ends, and the token cuts the leases that are issued under it.
    pub(super) fn was_cut_to_its_token(&self) -> bool {
        self.token
            .is_some_and(|token| token.caps == TokenCaps::Cuts && self.grant.end <= token.end + SAME_END)
            && self.token_is_the_limit()
    }

    /// The length of a grant that nobody cut short: the first may have been cut, on purpose.
    pub(super) fn usual_ttl(&self) -> Option<Duration> {
        self.terms.usual_ttl()
    }

    /// Whether the server would still renew it then: a login that the server looks at again may not hold any longer.
    pub(super) fn is_renewed_at(&self, at: Moment) -> bool {
        self.renewal != Renewal::Impossible
            && self.terms.renewals_for.is_none_or(|limit| at < self.issued_at + limit)
    }

    /// How long to wait for the answer to a renewal or a revocation: one that hangs must not eat the time that a
    /// successor needs.
    pub(super) fn patience(&self, now: Moment) -> Duration {
        pace::patience(now.until(self.usable_until()))
    }

    /// Takes over the facts that show without an event.
    pub(super) fn look(&mut self, seen: &Seen, turn: &mut Turn) {
        if self.token != seen.token {
            self.token = seen.token;
            self.looked_at = turn.now;
        }
        if self.is_superseded() && self.reasons.add(Reason::TokenSuperseded, turn.now + MOMENT) {
            turn.say(Line::TokenSuperseded);
            // With a token that has died its leases have gone: there is nothing to renew for draining.
            if self.token_has_died() {
                self.renewal = Renewal::Impossible;
            }
            self.begin_anew();
        }
        if seen.few_uses && self.listens_for_few_uses() && self.reasons.add(Reason::UsedUp, turn.now + MOMENT)
        {
            turn.say(Line::FewUsesLeft);
            self.begin_anew();
        }
    }

    fn is_superseded(&self) -> bool {
        self.token.is_some_and(|token| token.state == TokenState::Superseded)
    }

    /// Forgets the failures before a new reason: the requests may succeed because of it.
    pub(super) fn begin_anew(&mut self) {
        self.trouble = None;
        if self.reasons.is_pressing() {
            self.doubt = None;
        }
    }

    pub(super) fn listens_for_a_successor(&self) -> bool {
        self.token.is_some() && !self.reasons.has(Reason::TokenSuperseded)
    }

    /// Where the provider has no other, asking for it would only be another use.
    pub(super) fn listens_for_few_uses(&self) -> bool {
        self.reasons.is_empty() && self.same_again == 0
    }

    /// However often the provider says that it has another, issues keep their distance.
    pub(super) fn listens_for_changes_from(&self, is_issuing: bool, pace: &Pace) -> Moment {
        let is_untried = pace.changes.heard == Heard::AndNotYetTried;
        let about_to_ask = self.reasons.has(Reason::Changed) && (self.trouble.is_none() || is_untried);
        if is_issuing || about_to_ask { Moment::NEVER } else { pace.changes.from }
    }

    /// Whether the server says that it is dead, or a user whom the server told so.
    pub(super) fn is_known_to_be_dead(&self) -> bool {
        use Reason::{FoundDead, Gone, ReportedDead};
        self.reasons.has_any(&[FoundDead, Gone, ReportedDead])
    }

    pub(super) fn token_has_died(&self) -> bool {
        self.is_known_to_be_dead() || self.trouble.is_some_and(|trouble| trouble.kind == ErrorKind::DeadToken)
    }

    pub(super) fn may_live_longer(&mut self, now: Moment) {
        self.may_end = self.may_end.max(now + self.terms.increment);
    }

    /// Adds a failure to those before it. A dead token is another matter than whatever else failed before: only its
    /// successor helps, so the waits for that begin anew.
    pub(super) fn fail(&mut self, of: Failing, failure: Failure, now: Moment) {
        let Failure { kind, retry_after, .. } = failure;
        let carried = if of == Failing::Issues { failure.carried } else { Carried::No };
        let of = self.trouble.map_or(of, |before| if before.of == Failing::Issues { before.of } else { of });
        let is_dead = |kind| kind == ErrorKind::DeadToken;
        let alike = self.trouble.filter(|before| is_dead(before.kind) == is_dead(kind));
        let count = alike.map_or(1, |before| before.count.saturating_add(1));
        let since = self.trouble.map_or(self.asked_at, |before| before.since);
        self.trouble = Some(Trouble { count, at: now, since, kind, retry_after, carried, of });
    }
}

impl Terms {
    pub(crate) fn usual_ttl(&self) -> Option<Duration> {
        self.ttl.map(|ttl| ttl.max(self.increment))
    }
}
