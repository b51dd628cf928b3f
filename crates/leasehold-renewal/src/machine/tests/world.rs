//! A world with one machine in it, and with a server that knows the truth.

use std::{collections::BTreeMap, time::Duration};

use leasehold_core::Generation;

use super::{
    super::{
        Command, Event, Hands, Machine, Moment, Pace, Phase, Rules, Seen, TokenCaps, TokenSeen, TokenState,
    },
    facts::Facts,
    plan::{Hand, Happens, Reply, Setting, Under},
    server::{failed, revoked},
};
use crate::budget::Budget;

pub(super) const SHUTDOWN_BOUND: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now: Moment,
    pub(super) setting: Setting,
    pub(super) token: Option<TokenSeen>,
    pub(super) few_uses: bool,
    /// The longest time that the server may keep each generation.
    pub(super) truth: BTreeMap<Generation, Moment>,
    pub(super) seen: Facts,
}

/// One step, for those who check it.
pub(super) struct Step<'a> {
    pub(super) before: &'a World,
    pub(super) event: Event,
    pub(super) commands: Vec<Command>,
    pub(super) after: &'a World,
}

impl World {
    pub(super) fn new(setting: &Setting, check: &mut impl FnMut(&Step<'_>)) -> Self {
        let now = Moment::from_nanos(1_000_000_000_000);
        let rules = Rules {
            drain_budget: Duration::from_secs(60),
            shutdown_bound: SHUTDOWN_BOUND,
            start: setting.start,
        };
        let mut pace = Pace::new(Budget::new(None, None), now);
        pace.next_look = now;
        let token = match setting.under {
            Under::Nothing => None,
            Under::Token { seconds, cuts } => Some(TokenSeen {
                generation: Generation::new(1),
                end: now + Duration::from_secs(seconds),
                state: TokenState::Latest,
                caps: if cuts { TokenCaps::Cuts } else { TokenCaps::Leaves },
            }),
        };
        let seen = Seen { now, draw: 0.5, token: None, few_uses: false, old_tokens: Vec::new() };
        let (machine, commands) = Machine::start(rules, pace, &seen);
        let mut world = Self {
            machine,
            now,
            setting: setting.clone(),
            token,
            few_uses: false,
            truth: BTreeMap::new(),
            seen: Facts::new(),
        };
        let mut before = world.clone();
        before.machine.hands = Hands::default();
        world.note(&Event::Wake, &commands);
        check(&Step { before: &before, event: Event::Wake, commands, after: &world });
        world
    }

    pub(super) fn current(&self) -> Option<Generation> {
        match &self.machine.phase {
            Phase::Holding(holding) => Some(holding.generation),
            Phase::Starting(_) | Phase::Ending(_) | Phase::Over => None,
        }
    }

    /// The end of an old generation, as the machine knows it.
    pub(super) fn old_end(&self, generation: Generation) -> Moment {
        let old = self.machine.old.iter().find(|old| old.generation == generation);
        old.map_or(Moment::from_nanos(0), |old| old.end)
    }

    pub(super) fn look(&self, draw: f64) -> Seen {
        let holds = self.current().is_some();
        Seen {
            now: self.now,
            draw,
            token: self.token.filter(|_| holds),
            few_uses: self.few_uses && holds,
            old_tokens: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, event: Event, draw: f64, check: &mut impl FnMut(&Step<'_>)) {
        if self.machine.is_over() {
            return;
        }
        let (before, seen) = (self.clone(), self.look(draw));
        let commands = self.machine.step(&seen, event);
        self.note(&event, &commands);
        let renewing = before.machine.hands.renewing;
        if let Some(asked) = renewing.filter(|asked| commands.contains(&Command::Abandon(asked.id))) {
            self.may_live_until(asked.generation, self.now + self.setting.ttl);
        }
        check(&Step { before: &before, event, commands, after: self });
    }

    /// Lets something happen, if it can.
    pub(super) fn happens(&mut self, what: &Happens, draw: f64, check: &mut impl FnMut(&Step<'_>)) {
        if let Some(event) = self.event(what, draw, check) {
            self.step(event, draw, check);
        }
    }

    /// The event that it is for the machine, if it can happen now.
    pub(super) fn event(
        &mut self,
        what: &Happens,
        draw: f64,
        check: &mut impl FnMut(&Step<'_>),
    ) -> Option<Event> {
        let hands = self.machine.hands;
        match what {
            Happens::Wake { late } => {
                let wake = self.machine.next_wake();
                self.pass(if wake == Moment::NEVER { self.now + *late } else { wake + *late }, draw, check);
                Some(Event::Wake)
            }
            Happens::Time(share) => {
                let wake = self.machine.next_wake();
                let rest =
                    if wake == Moment::NEVER { Duration::from_secs(1000) } else { self.now.until(wake) };
                self.pass(self.now + rest.mul_f64(*share), draw, check);
                None
            }
            Happens::Answer(Hand::Issue, reply) => hands.issuing.map(|asked| self.issued(asked, reply)),
            Happens::Answer(Hand::Renewal, reply) => hands.renewing.map(|asked| self.renewed(asked, reply)),
            Happens::Answer(Hand::Revocation, reply) => hands.revoking.map(|asked| revoked(asked, reply)),
            Happens::Reject { cause, older } => {
                let current = self.current()?.number();
                let generation = Generation::new(if *older { current - 1 } else { current });
                Some(Event::Rejected { generation, cause: *cause })
            }
            Happens::Changed => (self.machine.listens().changed_from <= self.now).then_some(Event::Changed),
            Happens::TimeJumped => Some(Event::TimeJumped),
            Happens::TokenSuperseded => {
                self.token.as_mut().filter(|token| token.state == TokenState::Latest)?.state =
                    TokenState::Superseded;
                Some(Event::Wake)
            }
            Happens::TokenRenewed => {
                let end = self.now + Duration::from_secs(3600);
                self.token
                    .as_mut()
                    .filter(|token| token.state == TokenState::Latest && token.end < end)?
                    .end = end;
                Some(Event::Wake)
            }
            Happens::FewUses => {
                self.few_uses = true;
                Some(Event::Wake)
            }
            Happens::LetGo(which) => {
                let used = self.machine.old.iter().map(|old| old.generation);
                let used: Vec<_> = used
                    .filter(|of| !self.seen.let_go.contains(of) && !self.seen.set_aside.contains(of))
                    .collect();
                used.get(which % used.len().max(1)).map(|generation| Event::LetGo(*generation))
            }
            Happens::Stop(bound) => {
                (self.seen.users_until.is_none()).then(|| Event::Stop { deadline: self.now + *bound })
            }
            Happens::Unread => (self.seen.users_until.is_none()).then_some(Event::Unread),
            Happens::WaiterGone => {
                matches!(self.machine.phase, Phase::Starting(_)).then_some(Event::WaiterGone)
            }
        }
    }

    /// Lets time pass. The shell answers for a renewal or a revocation that hangs, at the end of its bound.
    fn pass(&mut self, until: Moment, draw: f64, check: &mut impl FnMut(&Step<'_>)) {
        let hands = self.machine.hands;
        for asked in [hands.renewing, hands.revoking].into_iter().flatten() {
            let bound = self.seen.bounds.get(&asked.id.0).copied();
            if let Some(bound) = bound.filter(|bound| *bound <= until) {
                self.now = self.now.max(bound);
                if hands.renewing == Some(asked) {
                    // A server may carry a renewal out as late as this.
                    self.may_live_until(asked.generation, self.now + self.setting.ttl);
                }
                self.step(failed(asked.id, &Reply::Lost), draw, check);
            }
        }
        self.now = self.now.max(until);
    }
}
