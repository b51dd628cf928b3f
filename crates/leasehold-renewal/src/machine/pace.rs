//! How often the keeper asks at most: every limit on the rate of requests, in one place.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation, clock::Moment};

use crate::{budget::Budget, rejections::Rejections};

/// The limits of one keeper, which outlive each generation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pace {
    /// When the last issue or renewal left: the next one keeps its distance.
    pub(super) last_request: Moment,
    /// When a change that the provider tells may be heard again.
    pub(super) changes: Changes,
    /// How fast a refused secret is replaced.
    pub(super) rejections: Rejections,
    /// How many are issued because those before were refused or had ended.
    pub(super) budget: Budget,
    /// Before this moment another jump of time, or another refusal, is no reason to ask.
    pub(super) next_look: Moment,
    /// Whether it was told that the budget is used up.
    pub(super) over_budget: Once,
    /// Whether renewals are denied by the policy, as those of the generation before were.
    pub(super) renewals: Policy,
}

/// The changes that the provider told. They have a pace of their own and cost no budget: otherwise a source that flaps would
/// use up the issues that a secret needs which has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// From when on the next one is heard.
    pub(super) from: Moment,
    /// The distance that the last one caused.
    pub(super) pause: Duration,
    pub(super) in_a_row: u32,
    pub(super) heard: Heard,
}

/// Whether an issue was tried for the change that was heard last. Before that another change is no news: it would only begin
/// anew what is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    AndTried,
    AndNotYetTried,
}

impl Changes {
    /// An issue leaves, for whatever reason.
    pub(super) fn issue_leaves(&mut self, now: Moment) {
        self.heard = Heard::AndTried;
        self.from = self.from.max(now + BETWEEN_CHANGES);
    }

    /// A change is heard, and the distance to the next one doubles: from a second to a sixth of the TTL. So a source that flaps
    /// while nothing can be revoked leaves some twenty secrets behind within a TTL, and not one each second.
    pub(super) fn hear(&mut self, now: Moment, ttl: Option<Duration>) {
        let is_another_matter = self.are_forgotten(now);
        self.in_a_row = if is_another_matter { 1 } else { self.in_a_row.saturating_add(1) };
        let longest = ttl.map_or(SLOWEST_CHANGES, |ttl| (ttl / 6).max(BETWEEN_CHANGES));
        self.pause = doubled(BETWEEN_CHANGES, self.in_a_row).min(longest);
        (self.from, self.heard) = (now + self.pause, Heard::AndNotYetTried);
    }

    /// Whether no change came for five minutes, or for as long as the last distance.
    pub(super) fn are_forgotten(&self, now: Moment) -> bool {
        self.from + self.pause.max(QUIET) <= now
    }
}

/// Whether something was said, so that it is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Once {
    Unsaid,
    Said,
}

impl Once {
    /// Returns whether it was not said before.
    pub(super) fn say(&mut self) -> bool {
        std::mem::replace(self, Self::Said) == Self::Unsaid
    }
}

/// Whether the policy lets the token renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Allows,
    Denies,
}

impl Pace {
    pub(crate) fn new(budget: Budget, now: Moment) -> Self {
        Self {
            last_request: now.earlier(SPACING),
            changes: Changes { from: now, pause: Duration::ZERO, in_a_row: 0, heard: Heard::AndTried },
            rejections: Rejections::default(),
            budget,
            next_look: now,
            over_budget: Once::Unsaid,
            renewals: Policy::Allows,
        }
    }

    /// Whether time that has jumped is a reason to ask now. A clock that is stepped again and again must not make each
    /// step a request.
    pub(super) fn may_look(&mut self, now: Moment, ttl: Duration) -> bool {
        let may_look = self.next_look <= now;
        if may_look {
            self.next_look = now + (ttl / 20).max(SHORTEST_BETWEEN_LOOKS);
        }
        may_look
    }

    /// Whether a standby may not have heard of a token that was issued then.
    pub(super) fn may_be_unknown(issued_at: Moment, cause: ErrorKind, now: Moment) -> bool {
        cause == ErrorKind::DeadToken && now < issued_at + REPLICATION
    }

    pub(super) fn should_verify(&mut self, generation: Generation, cause: ErrorKind) -> bool {
        self.rejections.should_verify(generation, cause)
    }
}

/// How long to wait for an answer when so much time is left: a request that hangs must not eat the time that a successor
/// needs.
pub(super) fn patience(left: Duration) -> Duration {
    (left / 2).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

/// Doubles from `first`, which is for a count of one.
pub(super) fn doubled(first: Duration, count: u32) -> Duration {
    first.saturating_mul(1 << count.saturating_sub(1).min(16))
}

/// Issues and renewals leave this far apart after every answer: a lease of no time at all would be a hot loop.
pub(super) const SPACING: Duration = Duration::from_millis(250);
/// How soon a change that the provider tells may follow the last issue.
pub(super) const BETWEEN_CHANGES: Duration = Duration::from_secs(1);
/// Events of one moment are all heard before the first of them is acted on.
pub(super) const MOMENT: Duration = Duration::from_millis(10);
/// After so long without a change the next one is another matter.
const QUIET: Duration = Duration::from_secs(300);
/// Where there is no TTL.
const SLOWEST_CHANGES: Duration = Duration::from_secs(600);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
const SHORTEST_BETWEEN_LOOKS: Duration = Duration::from_secs(30);
/// How long a token may be unknown to a node that did not issue it.
const REPLICATION: Duration = Duration::from_secs(1);
