//! What happens to secrets, through the `metrics` facade. The crate's README has the table of names.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
    time::Duration,
};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{Event, EventKind, Health};

/// Counts an event.
pub(crate) fn count(event: &Event) {
    harmless(|| count_it(event));
}

/// A recorder is somebody else's code; one that panics must not end a keeper in the middle of its work.
fn harmless(record: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(record));
}

fn count_it(event: &Event) {
    describe();
    let secret = event.secret.to_string();
    match &event.kind {
        EventKind::Issued { usable_for } => {
            counter!(ISSUED, "secret" => secret.clone()).increment(1);
            left(secret, *usable_for);
        }
        EventKind::Renewed { ttl, .. } if ttl.is_zero() => {}
        EventKind::Renewed { .. } => counter!(RENEWALS, "secret" => secret).increment(1),
        EventKind::Adopted => counter!(ROTATIONS, "secret" => secret).increment(1),
        EventKind::Revoked { .. } => counter!(REVOCATIONS, "secret" => secret).increment(1),
        EventKind::Rejected { .. } => counter!(REJECTIONS, "secret" => secret).increment(1),
        EventKind::Failed { error, .. } => {
            counter!(FAILURES, "secret" => secret, "kind" => error.kind().as_str()).increment(1);
        }
        EventKind::Terminated { connections } => {
            let connections = u64::try_from(*connections).unwrap_or(u64::MAX);
            counter!(FORCED_CLOSES, "secret" => secret).increment(connections);
        }
        EventKind::Superseded
        | EventKind::NotRotated { .. }
        | EventKind::Retiring { .. }
        | EventKind::Retired { .. }
        | EventKind::Degraded
        | EventKind::Recovered => {}
    }
}

/// Records how late a step was.
pub(crate) fn late(secret: &str, by: Duration) {
    harmless(|| {
        describe();
        histogram!(LATENESS, "secret" => secret.to_owned()).record(by.as_secs_f64());
    });
}

/// Sets what changes by itself as time goes by.
pub(crate) fn sample(secret: &str, health: &Health) {
    describe();
    left(secret.to_owned(), health.usable_for);
    let (mut in_force, mut superseded) = (0, 0);
    for (generation, open) in &health.connections {
        // Generations are numbered without end; a label must not be.
        *(if Some(*generation) == health.generation { &mut in_force } else { &mut superseded }) += *open;
    }
    for (state, open) in [("in_force", in_force), ("superseded", superseded)] {
        gauge!(CONNECTIONS, "secret" => secret.to_owned(), "state" => state).set(number(open));
    }
}

fn left(secret: String, usable_for: Option<Duration>) {
    let seconds = usable_for.map_or(f64::INFINITY, |left| left.as_secs_f64());
    gauge!(SECONDS_LEFT, "secret" => secret).set(seconds);
}

#[expect(clippy::cast_precision_loss, reason = "no pool has 2^52 connections")]
fn number(open: usize) -> f64 {
    open as f64
}

fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        describe_counter!(ISSUED, Unit::Count, "Secrets issued");
        describe_counter!(RENEWALS, Unit::Count, "Renewals granted");
        describe_counter!(ROTATIONS, Unit::Count, "Successors adopted by a pool");
        describe_counter!(REVOCATIONS, Unit::Count, "Secrets revoked, or left to go with their token");
        describe_counter!(REJECTIONS, Unit::Count, "Reports that a secret is refused");
        describe_counter!(FAILURES, Unit::Count, "Requests and adoptions that failed, by kind");
        describe_counter!(
            FORCED_CLOSES,
            Unit::Count,
            "Borrowed connections ended because their credentials were ending"
        );
        describe_histogram!(
            LATENESS,
            Unit::Seconds,
            "How late a keeper acted: a blocked runtime, or a suspension"
        );
        describe_gauge!(SECONDS_LEFT, Unit::Seconds, "Seconds to usable-until; +Inf for what does not end");
        describe_gauge!(
            CONNECTIONS,
            Unit::Count,
            "Open connections, of the generation in force and of superseded ones"
        );
    });
}

const ISSUED: &str = "leasehold_issued_total";
const RENEWALS: &str = "leasehold_renewals_total";
const ROTATIONS: &str = "leasehold_rotations_total";
const REVOCATIONS: &str = "leasehold_revocations_total";
const REJECTIONS: &str = "leasehold_rejections_total";
const FAILURES: &str = "leasehold_failures_total";
const FORCED_CLOSES: &str = "leasehold_forced_closes_total";
const LATENESS: &str = "leasehold_lateness_seconds";
const SECONDS_LEFT: &str = "leasehold_seconds_to_usable_until";
const CONNECTIONS: &str = "leasehold_connections";
