//! Obtaining the very first secret.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation, Party, clock::Moment};

use super::{Command, Failure, Machine, Phase, Turn, ending::Ending, schedule};
use crate::StartPolicy;

/// A keeper without a secret.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Starting {
    gives_up: GivesUp,
    failures: u32,
    /// When to ask next; never while a request is in flight.
    again: Moment,
    /// The failure that was told last: one that was no request is told once.
    told: Option<ErrorKind>,
}

/// When a start without success is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivesUp {
    AfterOneAttempt,
    At(Moment),
    Never,
}

impl Starting {
    pub(super) fn new(policy: StartPolicy, now: Moment) -> Self {
        let gives_up = match policy {
            StartPolicy::FailAtOnce | StartPolicy::WaitUpTo(Duration::ZERO) => GivesUp::AfterOneAttempt,
            StartPolicy::WaitUpTo(bound) => GivesUp::At(now + bound),
            StartPolicy::Degraded => GivesUp::Never,
        };
        Self { gives_up, failures: 0, again: now, told: None }
    }

    pub(super) fn next_wake(&self, is_issuing: bool) -> Moment {
        let again = if is_issuing { Moment::NEVER } else { self.again };
        match self.gives_up {
            GivesUp::At(end) => again.min(end),
            GivesUp::AfterOneAttempt | GivesUp::Never => again,
        }
    }

    /// When to ask again, or nothing if the start has failed.
    fn retry(&mut self, failure: &Failure, turn: &Turn) -> Option<Moment> {
        self.failures = self.failures.saturating_add(1);
        let wait = schedule::start_delay(self.failures, failure, turn.draw);
        let again = turn.now + wait;
        // A token of a moment ago may be unknown to a standby, and one that has died is replaced by its own keeper.
        let of_another = failure.kind == ErrorKind::DeadToken && failure.party == Party::Vault;
        let hopeless = schedule::needs_an_operator(failure.kind) && !of_another;
        match self.gives_up {
            GivesUp::Never => Some(again),
            GivesUp::AfterOneAttempt => None,
            GivesUp::At(_) if hopeless => None,
            GivesUp::At(end) => {
                // The last attempt leaves the time for an answer.
                let last = end.earlier(LAST_ATTEMPT.min(turn.now.until(end) / 2));
                let asked_to_wait = failure.retry_after.is_some_and(|wait| turn.now + wait > last);
                let too_late = last <= turn.now + schedule::FIRST_BACKOFF / 2 || asked_to_wait;
                if again <= last { Some(again) } else { (!too_late).then_some(last) }
            }
        }
    }
}

impl Machine {
    pub(super) fn start_in_time(&mut self, turn: &mut Turn) {
        let Phase::Starting(starting) = &mut self.phase else { return };
        let is_over = matches!(starting.gives_up, GivesUp::At(end) if end <= turn.now);
        if self.hands.issuing.is_none() && starting.again <= turn.now && !(is_over && starting.failures > 0) {
            starting.again = Moment::NEVER;
            self.issue(turn);
        } else if is_over {
            self.start_is_over(turn);
        }
    }

    pub(super) fn start_failed(&mut self, failure: Failure, turn: &mut Turn) {
        let Phase::Starting(starting) = &mut self.phase else { return };
        let Some(again) = starting.retry(&failure, turn) else { return self.start_is_over(turn) };
        starting.again = again;
        // Nothing was asked of anybody while the token is not there yet: once is enough to say so.
        if failure.kind != ErrorKind::NotYet || starting.told != Some(ErrorKind::NotYet) {
            let generation = Generation::new(0);
            turn.out.push(Command::Failed { generation, retry_in: turn.now.until(again), grave: false });
        }
        starting.told = Some(failure.kind);
    }

    /// Nobody gets a keeper. An issue in flight is waited for all the same: its grant is revoked when it comes.
    fn start_is_over(&mut self, turn: &mut Turn) {
        turn.out.push(Command::NotStarted);
        self.nothing_to_end();
    }

    pub(super) fn waiter_gone(&mut self) {
        if let Phase::Starting(_) = self.phase {
            self.nothing_to_end();
        }
    }

    fn nothing_to_end(&mut self) {
        self.phase =
            if self.hands.issuing.is_some() { Phase::Ending(Ending::of_a_late_issue()) } else { Phase::Over };
    }
}

/// How long before the bound the last attempt of a start leaves.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

#[cfg(test)]
impl Starting {
    pub(super) fn canonical(&mut self, canon: &mut crate::canonical::Canon) {
        let Self { gives_up, failures, again, told } = self;
        if let GivesUp::At(end) = gives_up {
            canon.moment(end);
        }
        // Twelve times doubled, the back-off is longer than the slowest pace.
        canon.count(failures, 12);
        canon.moment(again);
        canon.plain((std::mem::discriminant(gives_up), *told));
    }
}
