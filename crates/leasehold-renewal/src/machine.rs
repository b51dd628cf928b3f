//! The keeper's decisions as a machine: an event and a time go in, and commands come out.
//!
//! The machine does no I/O, reads no clock and draws no random number: the shell (`task.rs`) hands all of that in with
//! [`Seen`]. Every moment at which the machine wants to act is computed from its state alone, never from the present, so
//! a wake that comes early changes nothing and one that comes late acts at once.
//!
//! * A request that was sent is in [`Hands`]: at most one issue, one renewal and one revocation at a time, and none waits
//!   for another.
//! * The reasons to replace a secret are a set ([`Reasons`](reasons::Reasons)) that only grows until an issue succeeds.
//! * What limits how often the machine asks is in one place, [`Pace`].

mod answers;
mod crowd;
mod ending;
mod event;
mod holding;
mod news;
mod old;
mod pace;
mod reasons;
mod schedule;
mod starting;

use std::time::Duration;

use leasehold_core::{Generation, clock::Moment};

use ending::Ending;
pub(crate) use event::{
    Authority, Carried, Command, Event, Failure, Granted, Id, Line, Made, Outcome, Seen, Terms, TokenCaps,
    TokenSeen, TokenState,
};
use holding::Holding;
use old::{Old, Revoker};
pub(crate) use pace::Pace;
use pace::SPACING;
use schedule::Step;
use starting::Starting;

use crate::StartPolicy;

/// The life of one secret, from the first attempt to obtain it to the end of the last issue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    phase: Phase,
    /// The issues before the current one that somebody still uses, or that are still to be revoked.
    old: Vec<Old>,
    revoker: Revoker,
    hands: Hands,
    pace: Pace,
    rules: Rules,
    last_id: u32,
    last_generation: u64,
    /// The planned moment that was told last.
    planned: Moment,
}

/// Where the secret is in its life. A phase holds only the facts that it can need.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one for each keeper, which spends its life in the largest")]
enum Phase {
    Starting(Starting),
    Holding(Holding),
    Ending(Ending),
    Over,
}

/// The user's settings of a keeper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) drain_budget: Duration,
    pub(crate) shutdown_bound: Duration,
    pub(crate) start: StartPolicy,
}

/// The requests that were sent and not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hands {
    issuing: Option<Asked>,
    renewing: Option<AskedFor>,
    revoking: Option<AskedFor>,
}

/// A request and when it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    id: Id,
    sent: Moment,
}

/// A request about one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AskedFor {
    id: Id,
    sent: Moment,
    generation: Generation,
}

/// The news that the shell listens for beside answers and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listens {
    /// From when on the provider may say that it has another secret.
    pub(crate) changed_from: Moment,
    /// Whether a successor of the token above is news.
    pub(crate) successor: bool,
    /// Whether it is news that few uses are left.
    pub(crate) few_uses: bool,
}

/// One step under way: its time and its draw, and the commands so far.
struct Turn {
    now: Moment,
    draw: f64,
    out: Vec<Command>,
}

impl Turn {
    fn say(&mut self, line: Line) {
        self.out.push(Command::Say(line));
    }
}

impl Machine {
    /// A machine that is to obtain its first secret, and the commands to begin with.
    pub(crate) fn start(rules: Rules, pace: Pace, seen: &Seen) -> (Self, Vec<Command>) {
        let mut machine = Self {
            phase: Phase::Starting(Starting::new(rules.start, seen.now)),
            old: Vec::new(),
            revoker: Revoker::default(),
            hands: Hands::default(),
            pace,
            rules,
            last_id: 0,
            last_generation: 0,
            planned: Moment::NEVER,
        };
        let mut commands = machine.step(seen, Event::Wake);
        if rules.start == StartPolicy::Degraded {
            commands.push(Command::Started);
        }
        (machine, commands)
    }

    /// Takes one step. Every step that is due by `seen.now` is taken in it too.
    pub(crate) fn step(&mut self, seen: &Seen, event: Event) -> Vec<Command> {
        let mut turn = Turn { now: seen.now, draw: seen.draw.clamp(0.0, 1.0), out: Vec::new() };
        self.fold(seen, &mut turn);
        match event {
            Event::Wake => {}
            Event::Granted { id, grant } => self.granted(id, grant, &mut turn),
            Event::Renewed { id, ttl } => self.renewed(id, ttl, &mut turn),
            Event::Revoked { id, ours } => self.revoked(id, ours, &mut turn),
            Event::Failed { id, failure } => self.failed(id, failure, &mut turn),
            Event::Rejected { generation, cause } => self.rejected(generation, cause, &mut turn),
            Event::Changed => self.changed(&turn),
            Event::TimeJumped => self.time_jumped(&turn),
            Event::LetGo(generation) => self.let_go(generation, &mut turn),
            Event::WaiterGone => self.waiter_gone(),
            Event::Stop { deadline } => self.end(Some(deadline), &mut turn),
            Event::Unread => self.end(None, &mut turn),
        }
        self.act(seen, &mut turn);
        self.tell_the_plan(&mut turn);
        turn.out
    }

    /// When the machine wants to be woken: an absolute moment that only a change of its state moves.
    pub(crate) fn next_wake(&self) -> Moment {
        let lease = self.next_request().map_or(Moment::NEVER, |(at, _)| at);
        let phase = match &self.phase {
            Phase::Starting(starting) => starting.next_wake(self.hands.issuing.is_some()),
            Phase::Ending(ending) => ending.next_wake(),
            Phase::Holding(_) | Phase::Over => Moment::NEVER,
        };
        lease.min(phase).min(self.next_last_renewal()).min(self.next_revocation())
    }

    /// The news that is worth listening for.
    pub(crate) fn listens(&self) -> Listens {
        match &self.phase {
            Phase::Holding(holding) => Listens {
                changed_from: holding.listens_for_changes_from(self.hands.issuing.is_some(), &self.pace),
                successor: holding.listens_for_a_successor(),
                few_uses: holding.listens_for_few_uses(),
            },
            Phase::Starting(_) | Phase::Ending(_) | Phase::Over => {
                Listens { changed_from: Moment::NEVER, successor: false, few_uses: false }
            }
        }
    }

    /// Whether the shell has nothing left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The old generations whose token's end the next step wants to see.
    pub(crate) fn watched(&self) -> impl Iterator<Item = Generation> {
        self.old.iter().filter(|old| old.is_due()).map(|old| old.generation)
    }

    /// Tells when the next request is planned, so that readiness can tell whether it is late.
    fn tell_the_plan(&mut self, turn: &mut Turn) {
        let Phase::Holding(holding) = &self.phase else { return };
        let renewing = self.hands.renewing.filter(|asked| asked.generation == holding.generation);
        let in_flight = [self.hands.issuing.map(|asked| asked.sent), renewing.map(|asked| asked.sent)];
        let due = in_flight.into_iter().flatten().min().unwrap_or_else(|| match self.next_request() {
            Some((at, Step::Renew | Step::Issue)) => at,
            Some((_, Step::Look)) | None => Moment::NEVER,
        });
        if std::mem::replace(&mut self.planned, due) != due {
            turn.out.push(Command::Planned(due));
        }
    }

    /// Takes over the facts that show without an event: the end of the token above, its successor, few uses.
    fn fold(&mut self, seen: &Seen, turn: &mut Turn) {
        if let Phase::Holding(holding) = &mut self.phase {
            holding.look(seen, turn);
        }
    }

    /// Takes the steps that are due: first the end of a phase, then a request about the current secret, then those about old
    /// ones.
    fn act(&mut self, seen: &Seen, turn: &mut Turn) {
        self.act_on_phase(turn);
        while let Some((at, step)) = self.next_request().filter(|(at, _)| *at <= turn.now) {
            self.request(at, step, turn);
        }
        self.say_over_budget(turn);
        self.renew_for_the_last_time(turn);
        self.revoke(seen, turn);
        self.end_in_time(turn);
    }

    /// Says once that a replacement waits because too many were issued already.
    fn say_over_budget(&mut self, turn: &mut Turn) {
        let affordable = self.pace.budget.affordable_at();
        let Phase::Holding(holding) = &self.phase else { return };
        let waits = holding.reasons.cost_budget()
            && holding.reasons.due(Moment::from_nanos(0)).is_some_and(|due| due < affordable)
            && turn.now < affordable
            && self.hands.issuing.is_none();
        if waits && self.pace.over_budget.say() {
            let generation = holding.generation;
            turn.out.push(Command::OverBudget { generation, wait: turn.now.until(affordable) });
        }
    }

    fn act_on_phase(&mut self, turn: &mut Turn) {
        match &self.phase {
            Phase::Starting(_) => self.start_in_time(turn),
            Phase::Ending(_) => self.take_from_users(turn),
            Phase::Holding(_) | Phase::Over => {}
        }
    }

    /// The next request about the current secret, and when it may leave.
    fn next_request(&self) -> Option<(Moment, Step)> {
        let Phase::Holding(holding) = &self.phase else { return None };
        let is_renewing = self.hands.renewing.is_some();
        let (at, step) = match self.hands.issuing {
            // While the issue is not answered, the current secret is renewed.
            Some(_) if is_renewing => return None,
            Some(_) => (schedule::renewal_meanwhile(holding)?, Step::Renew),
            None => {
                let planned = schedule::next(holding, &self.pace, &self.rules)?;
                if is_renewing && planned.1 != Step::Issue {
                    return None;
                }
                planned
            }
        };
        let at = if step == Step::Look { at } else { at.max(self.pace.last_request + SPACING) };
        Some((at, step))
    }

    fn request(&mut self, due: Moment, step: Step, turn: &mut Turn) {
        let Phase::Holding(holding) = &mut self.phase else { return };
        if step == Step::Look {
            holding.looked_at = turn.now;
            return;
        }
        holding.asked_at = turn.now;
        let (generation, bound) = (holding.generation, holding.patience(turn.now));
        turn.out.push(Command::ActedLate(due.until(turn.now)));
        if step == Step::Renew {
            self.renew(generation, bound, turn);
        } else {
            self.give_up_renewing_current(turn);
            self.issue(turn);
        }
    }

    fn renew(&mut self, generation: Generation, bound: Duration, turn: &mut Turn) {
        let id = self.id();
        self.hands.renewing = Some(AskedFor { id, sent: turn.now, generation });
        self.pace.last_request = turn.now;
        turn.out.push(Command::Renew { id, generation, bound });
    }

    fn issue(&mut self, turn: &mut Turn) {
        let id = self.id();
        self.hands.issuing = Some(Asked { id, sent: turn.now });
        self.pace.last_request = turn.now;
        self.pace.changes.issue_leaves(turn.now);
        turn.out.push(Command::Issue(id));
    }

    /// Gives the renewal of the current secret up. The last renewal of an old one goes on, because it is for those who still
    /// use that one.
    fn give_up_renewing_current(&mut self, turn: &mut Turn) {
        let Phase::Holding(holding) = &self.phase else { return };
        if self.hands.renewing.is_some_and(|asked| asked.generation == holding.generation) {
            self.give_up_renewing(turn);
        }
    }

    /// Gives the renewal in flight up. The server may carry it out all the same.
    fn give_up_renewing(&mut self, turn: &mut Turn) {
        let Some(asked) = self.hands.renewing.take() else { return };
        turn.out.push(Command::Abandon(asked.id));
        self.may_live_longer(asked.generation, turn.now);
    }

    /// Notes that a renewal whose answer nobody hears may have moved the end.
    fn may_live_longer(&mut self, generation: Generation, now: Moment) {
        match &mut self.phase {
            Phase::Holding(holding) if holding.generation == generation => holding.may_live_longer(now),
            _ => self
                .old
                .iter_mut()
                .filter(|old| old.generation == generation)
                .for_each(|old| old.may_live_longer(now)),
        }
    }

    fn id(&mut self) -> Id {
        self.last_id = self.last_id.wrapping_add(1);
        Id(self.last_id)
    }

    fn next_generation(&mut self) -> Generation {
        self.last_generation += 1;
        Generation::new(self.last_generation)
    }
}

#[cfg(test)]
mod tests;
