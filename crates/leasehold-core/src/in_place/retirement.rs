//! Letting the connections of one generation go.

use std::{sync::Arc, time::Duration};

use tracing::{debug, warn};

use super::{InPlace, Slots, Tag, in_force::hard_phase};
use crate::{
    Credentials, ErrorKind, EventKind, Issued,
    clock::{Moment, sleep_until},
};

/// Exchanges idle connections of `old`, one at a time, until none is left or `old` has ended. Returns how many are.
/// What is in our hand goes back to the pool when the future is dropped.
pub(super) async fn run<P: Slots>(rotation: &InPlace<P>, old: &Arc<Issued<Credentials>>) -> usize {
    let (generation, clock) = (old.generation(), rotation.in_force.clock());
    let keeps_its_user =
        |in_force: Arc<Issued<Credentials>>| in_force.secret().username() == old.secret().username();
    if rotation.in_force.get().is_ok_and(keeps_its_user) {
        return 0;
    }
    let (mut reported, mut terminated, mut failures, mut quiet) = (None, false, 0_u32, 0_u32);
    loop {
        let remaining = rotation.in_force.count(generation);
        let now = clock.now();
        if remaining == 0 || now >= old.usable_until() {
            return remaining;
        }
        if reported.replace(remaining) != Some(remaining) {
            rotation.current.report(generation, EventKind::Retiring { remaining });
        }
        if now >= hard_phase(old) && !std::mem::replace(&mut terminated, true) {
            terminate(rotation, old, remaining).await;
        }
        let pause = match step(rotation, old, quiet >= PATIENT_FOR).await {
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
        pause_until(clock, old, clock.now() + pause).await;
    }
}

enum Step {
    Done,
    NothingIdle,
    Failed,
}

async fn step<P: Slots>(rotation: &InPlace<P>, old: &Arc<Issued<Credentials>>, queue: bool) -> Step {
    let Ok(in_force) = rotation.in_force.get() else { return Step::NothingIdle };
    let generation = old.generation();
    let slots = &rotation.slots;
    let wanted = |tag: &Tag| tag.generation() == generation;
    let slot = match slots.find(&wanted).await {
        // A pool whose callers queue has never anything idle; we are one caller more, now and then.
        None if queue => slots.queue(&wanted).await,
        found => found,
    };
    let Some(slot) = slot else { return Step::NothingIdle };
    if slots.is_surplus(&slot, rotation.in_force.last_reign()) {
        slots.give_up(slot).await;
        return Step::Done;
    }
    let tag = rotation.in_force.tag(Arc::clone(&in_force));
    match rotation.bounded(slots.open(tag)).await {
        Ok(connection) => {
            slots.exchange(slot, connection).await;
            Step::Done
        }
        Err(error) if error.kind() == ErrorKind::DatabaseFull => {
            // Its own is the only room there is.
            match rotation.open_in_room_of(slot, &in_force).await {
                Ok((connection, Some(place))) => slots.exchange(place, connection).await,
                Ok((connection, None)) => {
                    slots.close(connection).await;
                    slots.refill().await;
                }
                Err(_) => return Step::Failed,
            }
            Step::Done
        }
        Err(error) => {
            debug!(%generation, %error, "a connection could not be exchanged; it goes back to the pool");
            if error.kind() == ErrorKind::CredentialsRefused {
                rotation.current.reject(in_force.generation(), error.kind());
            }
            Step::Failed
        }
    }
}

async fn terminate<P: Slots>(rotation: &InPlace<P>, old: &Arc<Issued<Credentials>>, remaining: usize) {
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

/// Waits, but not past a moment at which something is to be done.
async fn pause_until(clock: &dyn crate::clock::Clock, old: &Issued<Credentials>, mut until: Moment) {
    let now = clock.now();
    for moment in [hard_phase(old), old.usable_until()] {
        if moment > now {
            until = until.min(moment);
        }
    }
    sleep_until(clock, until).await;
}

/// So many steps that found nothing idle, and callers may be queueing.
const PATIENT_FOR: u32 = 4;
/// Between two exchanges: a burst of handshakes would be felt by callers.
const PACE: Duration = Duration::from_millis(10);
/// Half the wait after the first failure.
const SETBACK: Duration = Duration::from_millis(250);
