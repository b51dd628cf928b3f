//! Letting the connections of one generation go.

use std::{sync::Arc, time::Duration};

use tracing::{debug, warn};

use super::{
    Freshness, Slots, Tag,
    in_force::hard_phase,
    inner::{Inner, Turn},
};
use crate::{
    Credentials, Error, ErrorKind, EventKind, Issued, Result,
    clock::{Clock, Moment, sleep_until},
};

/// Exchanges idle connections of `old`, one at a time, until none is left or `old` has ended. Returns how many are.
/// When the future is dropped, what is in our hand goes back to the pool, or is exchanged all the same. Past the end, as
/// after a revocation, idle ones are exchanged too: otherwise the next check-out would evict them all at once.
pub(super) async fn run<P: Slots>(rotation: &Arc<Inner<P>>, old: &Arc<Issued<Credentials>>) -> usize {
    let (generation, clock) = (old.generation(), rotation.in_force.clock());
    let keeps_its_user =
        |in_force: Arc<Issued<Credentials>>| in_force.secret().username() == old.secret().username();
    if rotation.in_force.get().is_ok_and(keeps_its_user) {
        return 0;
    }
    let (mut reported, mut terminated, mut failures, mut quiet) = (None, false, 0_u32, 0_u32);
    let (mut spare, mut exhausted) = (None, false);
    loop {
        let remaining = rotation.in_force.count(generation);
        let now = clock.now();
        if remaining == 0 || (exhausted && now >= old.usable_until()) {
            if let Some(spare) = spare {
                rotation.slots.close(spare).await;
            }
            give_up_ended(rotation).await;
            return rotation.in_force.count(generation);
        }
        if reported.replace(remaining) != Some(remaining) {
            rotation.current.report(generation, EventKind::Retiring { remaining });
        }
        if now >= hard_phase(old) && !std::mem::replace(&mut terminated, true) {
            if let Some(spare) = spare.take() {
                // Terminating takes a session of its own.
                rotation.slots.close(spare).await;
            }
            terminate(rotation, old, remaining).await;
        }
        let callers_may_queue = quiet >= QUIET;
        let mut step = step(rotation, old, &mut spare, callers_may_queue).await;
        if matches!(step, Step::NothingIdle) && callers_may_queue && rotation.slots.is_saturated() {
            step = step_in_passing(rotation, old, &mut spare).await;
        }
        exhausted = !matches!(step, Step::Done);
        if exhausted
            && !rotation.slots.is_saturated()
            && let Some(spare) = spare.take()
        {
            // Whatever is still borrowed may be so for long.
            rotation.slots.close(spare).await;
        }
        let pause = match step {
            Step::Done => {
                (failures, quiet) = (0, 0);
                PACE
            }
            Step::NothingIdle => {
                quiet = quiet.saturating_add(1);
                PACE * (1 << (quiet / 4).min(5))
            }
            Step::Failed => {
                failures = failures.saturating_add(1);
                SETBACK * (1 << failures.min(5))
            }
        };
        sleep_until(clock, until_something_is_due(clock, old, clock.now() + pause)).await;
    }
}

enum Step {
    Done,
    NothingIdle,
    Failed,
}

async fn step<P: Slots>(
    rotation: &Arc<Inner<P>>,
    old: &Arc<Issued<Credentials>>,
    spare: &mut Option<P::Connection>,
    queue: bool,
) -> Step {
    let turn = rotation.turn().await;
    let Ok(in_force) = rotation.in_force.get() else { return Step::NothingIdle };
    let generation = old.generation();
    let slots = &rotation.slots;
    // Whatever is not fresh: a generation that came later may end sooner.
    let wanted = |tag: &Tag| tag.freshness() != Freshness::Fresh;
    let slot = match slots.find(&wanted).await {
        // A pool whose callers queue has never anything idle; we are one caller more, now and then. What it is exchanged
        // for is opened before, or whoever is behind us would wait for a handshake.
        None if queue && slots.is_saturated() => {
            match take_or_open(rotation, spare, &in_force).await {
                Ok(connection) => *spare = Some(connection),
                Err(error) if error.kind() == ErrorKind::DatabaseFull => {}
                Err(error) => return failed(rotation, &in_force, &error),
            }
            slots.queue(&wanted).await
        }
        found => found,
    };
    let Some(slot) = slot else { return Step::NothingIdle };
    let exchanged = if slots.is_surplus(&slot, rotation.in_force.last_reign()) {
        rotation.give_up(slot).await
    } else {
        exchange(rotation, turn, slot, spare, &in_force).await
    };
    match exchanged {
        Ok(()) => Step::Done,
        Err(error) => {
            debug!(%generation, %error, "a connection could not be exchanged");
            failed(rotation, &in_force, &error)
        }
    }
}

async fn exchange<P: Slots>(
    rotation: &Arc<Inner<P>>,
    turn: Turn,
    slot: P::Slot,
    spare: &mut Option<P::Connection>,
    in_force: &Arc<Issued<Credentials>>,
) -> Result<()> {
    match take_or_open(rotation, spare, in_force).await {
        Ok(connection) => rotation.exchange(turn, slot, connection).await,
        // Its own is the only room there is.
        Err(error) if error.kind() == ErrorKind::DatabaseFull => {
            rotation.exchange_in_its_own_room(turn, slot, in_force, |_| ()).await
        }
        Err(error) => Err(error),
    }
}

/// Exchanges a connection in the moment in which it comes back, where callers wait for it already.
async fn step_in_passing<P: Slots>(
    rotation: &Arc<Inner<P>>,
    old: &Arc<Issued<Credentials>>,
    spare: &mut Option<P::Connection>,
) -> Step {
    let _turn = rotation.turn().await;
    let Ok(in_force) = rotation.in_force.get() else { return Step::NothingIdle };
    let connection = match take_or_open(rotation, spare, &in_force).await {
        Ok(connection) => connection,
        // Of these, the next one that is idle makes room.
        Err(error) if error.kind() == ErrorKind::DatabaseFull => return Step::NothingIdle,
        Err(error) => return failed(rotation, &in_force, &error),
    };
    let clock = rotation.in_force.clock();
    let until = until_something_is_due(clock, old, clock.now() + IN_PASSING);
    *spare = rotation.slots.exchange_next(old.generation(), connection, until).await;
    if spare.is_none() { Step::Done } else { Step::NothingIdle }
}

/// The connection that is open already and has no place yet, or another.
async fn take_or_open<P: Slots>(
    rotation: &Arc<Inner<P>>,
    spare: &mut Option<P::Connection>,
    in_force: &Arc<Issued<Credentials>>,
) -> Result<P::Connection> {
    match spare.take() {
        Some(spare) => Ok(spare),
        None => rotation.open(in_force).await,
    }
}

/// Closes what is idle, has ended, and could not be exchanged: a pool that asks nobody at a check-out would hand it out.
async fn give_up_ended<P: Slots>(rotation: &Arc<Inner<P>>) {
    let clock = rotation.in_force.clock();
    while let Some(slot) = rotation.slots.find(&|tag| tag.freshness() == Freshness::Ended).await {
        let _ = rotation.give_up(slot).await;
        sleep_until(clock, clock.now() + PACE).await;
    }
}

fn failed<P: Slots>(rotation: &Arc<Inner<P>>, in_force: &Issued<Credentials>, error: &Error) -> Step {
    if error.kind() == ErrorKind::CredentialsRefused {
        rotation.current.reject(in_force.generation(), error.kind());
    }
    Step::Failed
}

async fn terminate<P: Slots>(rotation: &Arc<Inner<P>>, old: &Arc<Issued<Credentials>>, remaining: usize) {
    let generation = old.generation();
    if !rotation.settings.terminate {
        return debug!(%generation, remaining, "connections of credentials that end are still borrowed");
    }
    match rotation.bounded(rotation.slots.terminate(old)).await {
        Ok(connections) => {
            warn!(%generation, connections, "sessions of credentials that end were terminated");
            rotation.current.report(generation, EventKind::Terminated { connections });
        }
        Err(error) => warn!(%generation, remaining, %error, "sessions of credentials that end are left"),
    }
}

/// Not past a moment at which something is to be done.
fn until_something_is_due(clock: &dyn Clock, old: &Issued<Credentials>, mut until: Moment) -> Moment {
    let now = clock.now();
    for moment in [hard_phase(old), old.usable_until()] {
        if moment > now {
            until = until.min(moment);
        }
    }
    until
}

/// Between two exchanges: a burst of handshakes would be felt by callers.
const PACE: Duration = Duration::from_millis(10);
/// Half the wait after the first failure.
const SETBACK: Duration = Duration::from_millis(250);
/// How many looks that find nothing idle make a full pool a saturated one.
const QUIET: u32 = 3;
/// How long a spare connection waits for one that comes back, before anything else is looked at.
const IN_PASSING: Duration = Duration::from_millis(500);
