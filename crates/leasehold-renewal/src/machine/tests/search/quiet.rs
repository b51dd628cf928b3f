//! Liveness: from any state, without further events, a step is taken within a bound.

use std::time::Duration;

use leasehold_core::ErrorKind;

use super::super::{
    super::{Command, Event, Moment, Phase, holding::Holding},
    checks,
    plan::{Happens, Reply},
    server::failed,
    world::{Step, World},
};
use super::moves;

/// From this state on nothing happens: the requests in flight are lost, and only time passes. Then a request leaves, or the
/// keeper looks at the token above, or it is over. That takes a bounded time, and a few wakes.
pub(super) fn a_step_comes(world: &World) {
    let bound = longest_quiet(world);
    let (begun, mut world) = (world.now, world.clone());
    // The shell listens for a successor of the token, which the new secret's token may have already.
    world.step(Event::Wake, 0.0, &mut |_| {});
    for _ in 0..MOST_WAKES {
        if world.machine.is_over()
            || (has_nothing_to_do(&world) && world.machine.next_wake() == Moment::NEVER)
        {
            return;
        }
        if !lose_or_wake(&mut world) {
            let waited = begun.until(world.now);
            assert!(waited <= bound, "a step came after {waited:?}, later than {bound:?}");
            return;
        }
    }
    panic!("{MOST_WAKES} wakes without a step, from {begun:?} to {:?}", world.now);
}

/// Lets time pass to whatever comes first. Returns whether the machine did nothing.
fn lose_or_wake(world: &mut World) -> bool {
    let hands = world.machine.hands;
    let wake = world.machine.next_wake().min(moves::patience_ends(world).unwrap_or(Moment::NEVER));
    let lost = hands.issuing.map(|asked| (asked.sent + LOST_AFTER).max(world.now));
    let looked_at = looked_at(world);
    let mut is_quiet = true;
    let mut watch = |step: &Step<'_>| is_quiet &= !step.commands.iter().any(is_a_request);
    match (hands.issuing, lost) {
        (Some(asked), Some(lost)) if lost <= wake => {
            world.now = lost;
            world.step(failed(asked.id, &Reply::Lost), 0.0, &mut watch);
        }
        _ => {
            assert_ne!(wake, Moment::NEVER, "nothing would ever happen");
            let late = match world.machine.next_wake() {
                Moment::NEVER => world.now.until(wake),
                next => next.until(wake),
            };
            world.happens(&Happens::Wake { late }, 0.0, &mut watch);
        }
    }
    is_quiet && looked_at == self::looked_at(world)
}

fn is_a_request(command: &Command) -> bool {
    matches!(command, Command::Issue(_) | Command::Renew { .. } | Command::Revoke { .. })
}

fn looked_at(world: &World) -> Option<Moment> {
    checks::holding(&world.machine).map(|held| held.looked_at)
}

fn has_nothing_to_do(world: &World) -> bool {
    checks::holding(&world.machine).is_some_and(checks::has_nothing_to_do)
}

/// How long a state may last to which nothing happens. It is the longest of what the keeper waits for: the end of the
/// grant, of the token or of the polling interval, and a pause after a failure.
pub(super) fn longest_quiet(world: &World) -> Duration {
    let hands = world.machine.hands;
    let is_asking = hands.issuing.is_some() || hands.renewing.is_some() || hands.revoking.is_some();
    let longest = match &world.machine.phase {
        Phase::Holding(held) => while_held(held, world.now),
        Phase::Ending(_) => AN_HOUR,
        // Each lost attempt may have made a user.
        Phase::Starting(_) => SLOWEST_WITH_ORPHANS,
        Phase::Over => Duration::ZERO,
    };
    longest + PAUSE + if is_asking { LOST_AFTER } else { Duration::ZERO }
}

fn while_held(held: &Holding, now: Moment) -> Duration {
    let token = held.token.filter(|token| token.end != Moment::NEVER).map(|token| now.until(token.end));
    let by_plan = [held.grant.ttl, held.usual_ttl(), token, held.terms.poll].into_iter().flatten().max();
    // The budget holds one more after each of these.
    let interval = held.usual_ttl().map_or(LONGEST_INTERVAL, |ttl| ttl / 6);
    let afforded = if held.reasons.cost_budget() { interval * 2 } else { Duration::ZERO };
    let is_dead = held.trouble.is_some_and(|trouble| trouble.kind == ErrorKind::DeadToken);
    let successor = if is_dead { SLOWEST_FOR_DEAD } else { Duration::ZERO };
    by_plan.unwrap_or_default().max(afforded).max(successor)
}

/// An issue has no bound of the keeper's: its provider gives up.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// The longest pause after a failure, or between two looks at a token that has ended, and a moment.
const PAUSE: Duration = Duration::from_secs(61);
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);
const SLOWEST_WITH_ORPHANS: Duration = Duration::from_secs(600);
const SLOWEST_FOR_DEAD: Duration = Duration::from_secs(900);
/// The last who uses it may go on to the end of its token.
const AN_HOUR: Duration = Duration::from_secs(3600);
const MOST_WAKES: usize = 8;
