//! The promises of every step, each a function of the step alone.

use std::{collections::BTreeSet, time::Duration};

use leasehold_core::{ErrorKind, Generation};

use super::{
    super::{
        Command, Event, Failure, Id, Line, Machine, Moment, Outcome, Phase, holding::Holding, pace::SPACING,
        reasons::Reason, schedule::LONGEST_RETRY_AFTER,
    },
    world::{SHUTDOWN_BOUND, Step, World},
};

/// Everything that holds of each step.
pub(super) fn all(step: &Step<'_>) {
    the_next_wake_is_later_than_now(step);
    a_spurious_wake_changes_nothing(step);
    reasons_only_grow_until_an_issue_succeeds(step);
    at_most_one_request_of_each_kind_is_in_flight(step);
    requests_about_the_secret_keep_their_distance(step);
    an_issue_is_never_given_up(step);
    every_grant_is_in_exactly_one_place(step);
    only_what_nobody_uses_is_revoked(step);
    nothing_that_may_live_is_forgotten(step);
    an_end_is_moved_by_answers_alone(step);
    what_ends_is_over_in_time(step);
    without_events_a_step_comes_within_a_bound(step);
}

pub(super) fn holding(machine: &Machine) -> Option<&Holding> {
    match &machine.phase {
        Phase::Holding(holding) => Some(holding),
        Phase::Starting(_) | Phase::Ending(_) | Phase::Over => None,
    }
}

/// PK1.
fn the_next_wake_is_later_than_now(step: &Step<'_>) {
    let wake = step.after.machine.next_wake();
    assert!(step.after.machine.is_over() || wake > step.after.now, "woken at {wake:?}, which has passed");
}

/// PK2: also with another draw, and at the very same moment. After a grant the shell looks once more before it sleeps, because
/// the new secret's token may have a successor already.
fn a_spurious_wake_changes_nothing(step: &Step<'_>) {
    let mut settled = step.after.clone();
    if matches!(step.event, Event::Granted { .. }) {
        settled.machine.step(&settled.look(0.5), Event::Wake);
    }
    let rest = settled.now.until(settled.machine.next_wake()).min(Duration::from_secs(100_000));
    for share in [0.0, 0.5, 0.999] {
        let mut world = settled.clone();
        world.now = world.now + rest.mul_f64(share);
        if world.now >= world.machine.next_wake() || world.machine.is_over() {
            continue;
        }
        let commands = world.machine.step(&world.look(share), Event::Wake);
        assert_eq!((commands, &world.machine), (Vec::new(), &settled.machine));
    }
}

/// PK4: a reason may be moved in time, and only the same generation's are compared.
fn reasons_only_grow_until_an_issue_succeeds(step: &Step<'_>) {
    let (Some(before), Some(after)) = (holding(&step.before.machine), holding(&step.after.machine)) else {
        return;
    };
    if matches!(step.event, Event::Granted { .. }) {
        return;
    }
    for reason in Reason::ALL {
        assert!(after.reasons.has(reason) || !before.reasons.has(reason), "{reason:?} was dropped");
    }
}

/// PK6. An answer to a request that nobody sent changes nothing.
fn at_most_one_request_of_each_kind_is_in_flight(step: &Step<'_>) {
    let mut last = step.before.seen.last_id;
    let mut given_up = BTreeSet::new();
    let before = step.before.machine.hands;
    let answered = match step.event {
        Event::Granted { id, .. }
        | Event::Renewed { id, .. }
        | Event::Revoked { id, .. }
        | Event::Failed { id, .. } => Some(id),
        _ => None,
    };
    let free = |id: Option<Id>, given_up: &BTreeSet<u32>| {
        id.is_none_or(|id| Some(id) == answered || given_up.contains(&id.0))
    };
    for command in &step.commands {
        let (id, is_free) = match command {
            Command::Abandon(id) => {
                given_up.insert(id.0);
                continue;
            }
            Command::Issue(id) => (*id, free(before.issuing.map(|asked| asked.id), &given_up)),
            Command::Renew { id, .. } => (*id, free(before.renewing.map(|asked| asked.id), &given_up)),
            Command::Revoke { id, .. } => (*id, free(before.revoking.map(|asked| asked.id), &given_up)),
            _ => continue,
        };
        assert!(id.0 > last, "an id is used once");
        assert!(is_free, "{command:?} beside another of its kind");
        last = id.0;
    }
    let mut machine = step.after.machine.clone();
    machine.step(&step.after.look(0.5), Event::Wake);
    let settled = machine.clone();
    let failure = Failure {
        kind: ErrorKind::DeadToken,
        party: leasehold_core::Party::Vault,
        retry_after: None,
        carried: super::super::Carried::Maybe,
    };
    machine.step(&step.after.look(0.5), Event::Failed { id: Id(u32::MAX), failure });
    assert_eq!(machine, settled);
}

/// PK7.
fn requests_about_the_secret_keep_their_distance(step: &Step<'_>) {
    let requests =
        step.commands.iter().filter(|command| matches!(command, Command::Issue(_) | Command::Renew { .. }));
    let count = requests.count();
    assert!(count <= 1, "{count} at once");
    let last = step.before.seen.last_request.filter(|_| count == 1);
    assert!(last.is_none_or(|last| last + SPACING <= step.after.now), "too soon after {last:?}");
}

/// PK8.
fn an_issue_is_never_given_up(step: &Step<'_>) {
    let issuing = step.before.machine.hands.issuing;
    assert!(issuing.is_none_or(|asked| !step.commands.contains(&Command::Abandon(asked.id))));
}

/// PK9: current, old or forgotten; a keeper that is over has said how many it leaves, unless nobody waits for it.
fn every_grant_is_in_exactly_one_place(step: &Step<'_>) {
    let World { machine, seen, .. } = step.after;
    let current = step.after.current();
    let mut places: Vec<Generation> = machine.old.iter().map(|old| old.generation).chain(current).collect();
    places.extend(&seen.forgotten);
    let kept: BTreeSet<Generation> = places.iter().copied().collect();
    assert_eq!(kept.len(), places.len(), "in two places: {places:?}");
    let granted: BTreeSet<Generation> = seen.published.union(&seen.set_aside).copied().collect();
    let lost = granted.difference(&kept).count();
    let may_be_left = machine.is_over() || seen.deadline.is_none_or(|deadline| deadline <= step.after.now);
    assert!(
        kept.is_subset(&granted) && (lost == 0 || (seen.users_until.is_some() && may_be_left)),
        "{lost} lost"
    );
    let ended = step.commands.iter().find_map(|command| match command {
        Command::Ended(outcome) => Some(*outcome),
        _ => None,
    });
    if let Some(outcome) = ended {
        let left = granted.difference(&seen.forgotten).count();
        assert_eq!(outcome, if left == 0 { Outcome::Clean } else { Outcome::Left(left) });
    }
}

/// PK10.
fn only_what_nobody_uses_is_revoked(step: &Step<'_>) {
    for command in &step.commands {
        let Command::Revoke { generation, .. } = command else { continue };
        let seen = &step.after.seen;
        let unused = seen.let_go.contains(generation) || seen.set_aside.contains(generation);
        let time_is_up = seen.users_until.is_some_and(|until| until <= step.after.now);
        assert!(unused || time_is_up, "{generation} is in use");
        assert_ne!(Some(*generation), step.after.current());
    }
}

/// PK11, by the server's own list and not by the machine's.
fn nothing_that_may_live_is_forgotten(step: &Step<'_>) {
    for command in &step.commands {
        let Command::Say(Line::EndedByItself(generation)) = command else { continue };
        let end = step.after.truth.get(generation).copied().unwrap_or(Moment::NEVER);
        assert!(end <= step.after.now, "{generation} may live until {end:?}, and it is {:?}", step.after.now);
    }
}

/// PK12: by the grant, from when it was asked for; or to now, where the server says that the lease has gone.
fn an_end_is_moved_by_answers_alone(step: &Step<'_>) {
    for command in &step.commands {
        let Command::MoveEnd { generation, end } = command else { continue };
        let known = step.after.truth.get(generation).copied().unwrap_or(Moment::NEVER);
        match step.event {
            Event::Renewed { .. } => {
                assert!(*end <= known.max(step.before.old_end(*generation)), "{end:?} instead of {known:?}")
            }
            Event::Failed { failure, .. } => {
                assert!(failure.kind == ErrorKind::LeaseGone && *end <= step.after.now, "{failure:?}");
            }
            other => panic!("moved by {other:?}"),
        }
    }
}

/// PK18. A grant that comes later than the deadline has the time that a shut-down usually has, once for each such grant,
/// of which there is one.
fn what_ends_is_over_in_time(step: &Step<'_>) {
    if step.before.machine.is_over() {
        assert_eq!(step.commands, Vec::new(), "nothing comes after the end");
    }
    let Phase::Ending(_) = step.after.machine.phase else { return };
    let Some(deadline) = step.after.seen.deadline else { return };
    let issue_is_left = step.after.machine.hands.issuing.is_some();
    let late =
        step.after.seen.set_aside_at.map_or(deadline, |set_aside| deadline.max(set_aside) + SHUTDOWN_BOUND);
    assert!(issue_is_left || step.after.now < late, "it should have been over at {late:?}");
}

/// The next step after an answer, a failure or a reason comes no later than this after the longest of: the TTL, the rest of
/// the token, the interval of polling. A dead token waits for 900 s, a used-up budget for two intervals of 600 s, an issue
/// that may have left a lease for 600 s, and a rejection for a third of the TTL or for 60 s; these do not add up.
const LONGEST_QUIET: Duration = Duration::from_secs(1200).saturating_add(LONGEST_RETRY_AFTER);

/// From any state, without further events, a step is taken within a bound. An issue in flight has none, on purpose; what
/// does not end and is not polled has nothing to wait for.
fn without_events_a_step_comes_within_a_bound(step: &Step<'_>) {
    let Some(held) = holding(&step.after.machine) else { return };
    let hands = step.after.machine.hands;
    if hands.issuing.is_some() || hands.renewing.is_some() {
        return;
    }
    if has_nothing_to_do(held) {
        return;
    }
    let now = step.after.now;
    let token = held.token.filter(|token| token.end != Moment::NEVER).map(|token| now.until(token.end));
    let longest = [held.grant.ttl, held.usual_ttl(), token, held.terms.poll].into_iter().flatten().max();
    let bound = longest.unwrap_or_default() + LONGEST_QUIET;
    let wait = now.until(step.after.machine.next_wake());
    assert!(wait <= bound, "the next step comes in {wait:?}, later than {bound:?}");
}

/// Whether only an event can give it something to do: it does not end and is not polled, and no token above it ends.
pub(super) fn has_nothing_to_do(held: &Holding) -> bool {
    held.grant.ttl.is_none()
        && held.terms.poll.is_none()
        && held.reasons.is_empty()
        && held.trouble.is_none()
        && held.token.is_none_or(|token| token.end == Moment::NEVER)
}
