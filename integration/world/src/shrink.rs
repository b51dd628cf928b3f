//! Makes a plan that failed smaller, as long as it breaks the same promise.

use crate::{
    oracle::Promise,
    plan::{Fault, Plan},
    run::run,
};

pub(crate) fn shrink(plan: &Plan, promise: Promise) -> Plan {
    let mut best = plan.clone();
    // The end first: a world that stops right after the violation is the quickest to run again.
    for share in [0.1, 0.25, 0.5, 0.75] {
        let storm_s = (plan.settings.storm_s as f64 * share) as u64;
        let mut shorter = best.clone();
        shorter.settings.storm_s = storm_s;
        shorter.faults.retain(|fault| fault.at_ms < storm_s * 1_000);
        if breaks(&shorter, promise) {
            best = shorter;
            break;
        }
    }
    let kinds: Vec<_> = best.faults.iter().map(|fault| fault.what.name()).collect();
    for kind in kinds {
        try_without(&mut best, promise, |fault| fault.what.name() != kind);
    }
    let mut chunk = best.faults.len() / 2;
    while chunk > 0 {
        let mut from = 0;
        while from < best.faults.len() {
            let mut smaller = best.clone();
            smaller.faults.drain(from..(from + chunk).min(best.faults.len()));
            if breaks(&smaller, promise) {
                best = smaller;
            } else {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    for role in (0..best.settings.roles.len()).rev() {
        let mut smaller = best.clone();
        smaller.settings.roles[role].pools.clear();
        if breaks(&smaller, promise) {
            best = smaller;
        }
    }
    best
}

fn try_without(best: &mut Plan, promise: Promise, keep: impl Fn(&Fault) -> bool) {
    let mut smaller = best.clone();
    smaller.faults.retain(keep);
    if smaller.faults.len() < best.faults.len() && breaks(&smaller, promise) {
        *best = smaller;
    }
}

fn breaks(plan: &Plan, promise: Promise) -> bool {
    run(plan, false).violations.iter().any(|violation| violation.promise == promise)
}
