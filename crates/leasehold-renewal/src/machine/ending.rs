//! The end of a keeper: its users let go, and its leases are revoked.

use leasehold_core::clock::Moment;

use super::{Command, Granted, Line, Machine, Outcome, Phase, Turn, old::Old};

/// A keeper that hands out nothing any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ending {
    /// When it is over, even if something is left; `NEVER` while only an issue in flight is waited for.
    deadline: Moment,
    /// Until when users may let go by themselves; `NEVER` once that is over.
    users_until: Moment,
    asked: AskedBy,
}

/// Whether somebody waits for the end, and was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskedBy {
    Caller,
    /// The last handle has gone, or there was never one.
    Nobody,
    /// The caller was told how it ended; only an issue in flight is waited for.
    Answered,
}

impl Ending {
    pub(super) fn of_a_late_issue() -> Self {
        Self { deadline: Moment::NEVER, users_until: Moment::NEVER, asked: AskedBy::Answered }
    }

    pub(super) fn deadline(&self) -> Moment {
        self.deadline
    }

    pub(super) fn next_wake(&self) -> Moment {
        self.deadline.min(self.users_until)
    }
}

impl Machine {
    /// Begins to end: by a deadline that a caller gave, or because nobody can read the secret any more.
    pub(super) fn end(&mut self, deadline: Option<Moment>, turn: &mut Turn) {
        let now = turn.now;
        match &self.phase {
            Phase::Starting(_) | Phase::Holding(_) => {}
            Phase::Ending(_) | Phase::Over => return,
        }
        turn.out.push(Command::Close);
        self.give_up_renewing(turn);
        if let Phase::Holding(holding) = &self.phase {
            self.old.push(Old::in_use(holding));
        }
        self.old.iter_mut().for_each(|old| old.hurry(now));
        let bound = now + self.rules.shutdown_bound;
        self.phase = Phase::Ending(match deadline {
            Some(deadline) => {
                let users_until = now + now.until(deadline).mul_f64(SHARE_OF_USERS);
                Ending { deadline, users_until, asked: AskedBy::Caller }
            }
            // Users who are left when the last handle has gone may go on to its end.
            None => {
                let ends = self.old.iter().map(Old::usable_until).filter(|end| *end != Moment::NEVER);
                let deadline = ends.max().map_or(bound, |end| end.max(bound));
                Ending { deadline, users_until: deadline, asked: AskedBy::Nobody }
            }
        });
    }

    /// Sets a grant aside that came after the end had begun: it was handed to nobody, and is revoked.
    pub(super) fn came_too_late(&mut self, granted: Granted, sent: Moment, turn: &mut Turn) {
        if granted.same {
            // Somebody may use it until the end of the shut-down, and then it is revoked as the generation that it was.
            return;
        }
        if self.is_too_late(turn.now) {
            self.only_the_issue(self.old.len(), turn);
        }
        let generation = self.next_generation();
        turn.out.push(Command::SetAside { generation, sent });
        self.old.push(Old::unused(generation, &granted, sent, turn.now));
        // It comes when the time is over, or nearly: its revocation has the time that a shut-down usually has.
        let bound = self.rules.shutdown_bound;
        if let Phase::Ending(ending) = &mut self.phase
            && (ending.deadline == Moment::NEVER || ending.deadline < turn.now + bound / 4)
        {
            ending.deadline = turn.now + bound;
        }
    }

    /// Takes it from users who have had their time.
    pub(super) fn take_from_users(&mut self, turn: &mut Turn) {
        let Phase::Ending(ending) = &mut self.phase else { return };
        if ending.users_until > turn.now {
            return;
        }
        ending.users_until = Moment::NEVER;
        let still_used = self.old.iter().filter(|old| !old.is_due()).count();
        if still_used > 0 {
            turn.say(Line::StillInUseAtShutDown { generations: still_used });
        }
        self.old.iter_mut().for_each(|old| old.let_go(turn.now));
    }

    /// Whether there is no time left to revoke anything.
    pub(super) fn is_too_late(&self, now: Moment) -> bool {
        matches!(&self.phase, Phase::Ending(ending) if ending.deadline <= now)
    }

    /// Ends it if nothing is left, or no time. It comes after the revocations of the same moment: some need no request.
    pub(super) fn end_in_time(&mut self, turn: &mut Turn) {
        let Phase::Ending(_) = &self.phase else { return };
        let is_late = self.is_too_late(turn.now);
        match (self.hands.issuing, self.old.len()) {
            (None, 0) => self.over(Outcome::Clean, turn),
            (None, left) if is_late => self.over(Outcome::Left(left), turn),
            // An issue in flight is waited for, because its answer may be a lease that nobody else knows of.
            (Some(_), left) if is_late => self.only_the_issue(left, turn),
            _ => {}
        }
    }

    /// Tells how it ended, where something is left; from now on only the issue in flight counts.
    fn only_the_issue(&mut self, left: usize, turn: &mut Turn) {
        let Phase::Ending(ending) = &mut self.phase else { return };
        ending.deadline = Moment::NEVER;
        if left > 0 {
            if ending.asked != AskedBy::Answered {
                turn.out.push(Command::Ended(Outcome::Left(left)));
            }
            ending.asked = AskedBy::Answered;
            self.old.clear();
            self.hands
                .revoking
                .take()
                .into_iter()
                .for_each(|asked| turn.out.push(Command::Abandon(asked.id)));
        }
    }

    fn over(&mut self, outcome: Outcome, turn: &mut Turn) {
        let Phase::Ending(ending) = &self.phase else { return };
        if ending.asked != AskedBy::Answered {
            turn.out.push(Command::Ended(outcome));
        }
        self.hands.revoking.take().into_iter().for_each(|asked| turn.out.push(Command::Abandon(asked.id)));
        self.phase = Phase::Over;
    }
}

/// The share of a shut-down's time in which users may still go by themselves; the rest is for revoking.
const SHARE_OF_USERS: f64 = 0.7;

#[cfg(test)]
impl Ending {
    pub(super) fn canonical(&mut self, canon: &mut crate::canonical::Canon) {
        let Self { deadline, users_until, asked } = self;
        canon.moment(deadline);
        canon.moment(users_until);
        canon.plain(std::mem::discriminant(asked));
    }

    /// Whether only an issue in flight is waited for, and nobody waits for the end.
    pub(super) fn waits_for_an_issue_alone(&self) -> bool {
        self.asked == AskedBy::Answered
    }
}
