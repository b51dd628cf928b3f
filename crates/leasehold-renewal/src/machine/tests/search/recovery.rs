//! Liveness once more: from any state, if nothing fails any more, the keeper soon holds a secret that works, or is over.

use std::time::Duration;

use super::{
    super::{
        super::{Moment, Phase, TokenState, reasons::Reason},
        checks,
        plan::{Hand, Happens, Reply},
        world::World,
    },
    quiet,
};

/// From this state on every request is answered well and at once, a token that has ended is replaced by its own keeper, and
/// all users let go.
pub(super) fn it_recovers(world: &World) {
    let bound = quiet::longest_quiet(world) * 2;
    let (begun, mut world) = (world.now, world.clone());
    for _ in 0..MOST_STEPS {
        if is_well(&world) {
            let waited = begun.until(world.now);
            assert!(waited <= bound, "it was well after {waited:?}, later than {bound:?}");
            return;
        }
        let next = next(&world);
        world.happens(&next, 0.0, &mut |_| {});
    }
    panic!("{MOST_STEPS} steps did not make it well: {world:#?}");
}

fn next(world: &World) -> Happens {
    let hands = world.machine.hands;
    let done = |hand| Happens::Answer(hand, Reply::Done { same: false });
    let token_has_ended =
        world.token.is_some_and(|token| token.state == TokenState::Latest && token.end <= world.now);
    let is_used = world.machine.old.iter().any(|old| !old.is_due());
    if hands.issuing.is_some() {
        done(Hand::Issue)
    } else if hands.renewing.is_some() {
        done(Hand::Renewal)
    } else if hands.revoking.is_some() {
        done(Hand::Revocation)
    } else if is_used {
        Happens::LetGo(0)
    } else if token_has_ended && checks::holding(&world.machine).is_some() {
        Happens::TokenSuperseded
    } else {
        Happens::Wake { late: Duration::ZERO }
    }
}

/// Whether it is over, or nothing is in doubt about its secret, which works, and nothing else is left to do.
fn is_well(world: &World) -> bool {
    let machine = &world.machine;
    match &machine.phase {
        Phase::Starting(_) | Phase::Ending(_) => false,
        Phase::Over => true,
        Phase::Holding(held) => {
            let works = world.now < held.usable_until() || held.grant.ttl == Some(Duration::ZERO);
            let is_calm = held.reasons.has_none_but(Reason::Truncated)
                && held.doubt.is_none()
                && held.trouble.is_none()
                && machine.hands.issuing.is_none();
            let is_awake = machine.next_wake() != Moment::NEVER || checks::has_nothing_to_do(held);
            works && is_calm && is_awake && machine.old.is_empty()
        }
    }
}

const MOST_STEPS: usize = 60;
