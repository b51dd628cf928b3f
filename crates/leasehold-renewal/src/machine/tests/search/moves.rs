//! Everything that can happen in a state, with the effort that it costs the search.

use std::time::Duration;

use leasehold_core::ErrorKind;

use super::super::{
    super::{Moment, Phase},
    plan::{Hand, Happens, Reply},
    world::World,
};

/// One thing that can happen, and the draw of its step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Move {
    pub(super) what: Happens,
    pub(super) draw: f64,
    /// The search goes by this: far along what is usual, and less far where rare things meet.
    pub(super) effort: u8,
}

const USUAL: u8 = 1;
const RARE: u8 = 2;
/// A draw other than the middle one is so much rarer.
const EDGE: u8 = 1;
/// The server asks those whom it limits for so much time.
const ASKED_TO_WAIT: Duration = Duration::from_secs(20);

pub(super) fn all(world: &World) -> Vec<Move> {
    let mut all = Vec::with_capacity(64);
    if world.machine.is_over() {
        return all;
    }
    time(world, &mut all);
    answers(world, &mut all);
    news(world, &mut all);
    all
}

/// Time goes on: to the next moment at which something is due, half of the way, or late past it.
fn time(world: &World, all: &mut Vec<Move>) {
    let wake = world.machine.next_wake();
    let (on_time, wait) = match wake {
        Moment::NEVER => {
            // Nothing is due but the end of the patience with a request. If there is none, nothing is due at all.
            let wait = patience_ends(world).map_or(Duration::from_secs(60), |bound| world.now.until(bound));
            (wait, wait)
        }
        wake => (Duration::ZERO, world.now.until(wake)),
    };
    let late = (world.setting.ttl * 2).max(Duration::from_secs(5));
    push(all, USUAL, Happens::Wake { late: on_time });
    push(all, RARE, Happens::Wake { late: on_time + late });
    if wake != Moment::NEVER && wait >= Duration::from_millis(100) {
        push(all, RARE, Happens::Time(0.5));
    }
}

/// When the shell gives up one of the requests in flight.
pub(super) fn patience_ends(world: &World) -> Option<Moment> {
    let hands = world.machine.hands;
    let asked = [hands.renewing, hands.revoking].into_iter().flatten();
    asked.filter_map(|asked| world.seen.bounds.get(&asked.id.0)).min().copied()
}

fn answers(world: &World, all: &mut Vec<Move>) {
    use ErrorKind::{
        DeadToken, Denied, LeaseGone, LoginDoubtful, LoginLapsed, LoginRefused, NotFound, NotRenewable,
        NotYet, RateLimited, RenewalFailed, Sealed, Unreachable,
    };
    let fails = |kind| Reply::Fails(kind, (kind == RateLimited).then_some(ASKED_TO_WAIT));
    let hands = world.machine.hands;
    if hands.issuing.is_some() {
        drawn(all, USUAL, Hand::Issue, Reply::Done { same: false });
        let mut replies = vec![Reply::Truncated(0.5), Reply::Lost];
        replies.extend(world.current().map(|_| Reply::Done { same: true }));
        replies.extend(
            [Unreachable, RateLimited, LoginRefused, LoginDoubtful, DeadToken, Denied, NotYet].map(fails),
        );
        replies.into_iter().for_each(|reply| drawn(all, RARE, Hand::Issue, reply));
    }
    if hands.renewing.is_some() {
        drawn(all, USUAL, Hand::Renewal, Reply::Done { same: false });
        let mut replies = vec![Reply::Truncated(0.5), Reply::Lost];
        replies.extend(
            [Sealed, RateLimited, RenewalFailed, Denied, DeadToken, LeaseGone, LoginLapsed, NotRenewable]
                .map(fails),
        );
        replies.into_iter().for_each(|reply| drawn(all, RARE, Hand::Renewal, reply));
    }
    if hands.revoking.is_some() {
        push(all, USUAL, Happens::Answer(Hand::Revocation, Reply::Done { same: false }));
        for reply in [Reply::NotOurs, fails(Denied), fails(LeaseGone)] {
            push(all, RARE, Happens::Answer(Hand::Revocation, reply));
        }
        for reply in [Reply::Lost, fails(RateLimited), fails(NotFound)] {
            drawn(all, RARE, Hand::Revocation, reply);
        }
    }
}

fn news(world: &World, all: &mut Vec<Move>) {
    if let Phase::Holding(holding) = &world.machine.phase {
        for cause in [ErrorKind::CredentialsRefused, ErrorKind::DeadToken] {
            push(all, RARE, Happens::Reject { cause, older: false });
        }
        push(all, RARE, Happens::Reject { cause: ErrorKind::DeadToken, older: true });
        push(all, RARE, Happens::TimeJumped);
        if world.machine.listens().changed_from <= world.now {
            push(all, RARE, Happens::Changed);
        }
        if !world.few_uses {
            push(all, RARE, Happens::FewUses);
        }
        if holding.token.is_some() {
            push(all, RARE, Happens::TokenSuperseded);
            push(all, RARE, Happens::TokenRenewed);
        }
    }
    let used = world.machine.old.iter().map(|old| old.generation);
    let used =
        used.filter(|of| !world.seen.let_go.contains(of) && !world.seen.set_aside.contains(of)).count();
    for which in 0..used.min(2) {
        push(all, if which == 0 { USUAL } else { RARE }, Happens::LetGo(which));
    }
    if let Phase::Starting(_) = world.machine.phase {
        push(all, RARE, Happens::WaiterGone);
    }
    if world.seen.users_until.is_none() && !matches!(world.machine.phase, Phase::Ending(_)) {
        push(all, RARE, Happens::Stop(Duration::ZERO));
        push(all, RARE, Happens::Stop(Duration::from_secs(10)));
        push(all, RARE, Happens::Unread);
    }
}

fn push(all: &mut Vec<Move>, effort: u8, what: Happens) {
    all.push(Move { what, draw: 0.5, effort });
}

/// An answer after which something is drawn.
fn drawn(all: &mut Vec<Move>, effort: u8, hand: Hand, reply: Reply) {
    for (draw, more) in [(0.5, 0), (0.0, EDGE), (1.0, EDGE)] {
        all.push(Move { what: Happens::Answer(hand, reply), draw, effort: effort + more });
    }
}
