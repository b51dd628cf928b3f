//! Plans under which the machine once broke a promise.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation};

use super::{
    super::{Command, reasons::Reason},
    checks,
    plan::{Hand, Happens, Reply, Setting, Under},
    properties::holding,
    world::{Step, World},
};

const GRANTED: Happens = Happens::Answer(Hand::Issue, Reply::Done { same: false });
const SAME_AGAIN: Happens = Happens::Answer(Hand::Issue, Reply::Done { same: true });
const WOKEN: Happens = Happens::Wake { late: Duration::ZERO };
const HALF_AN_HOUR: Happens = Happens::Wake { late: Duration::from_secs(1800) };

/// Tells a story whose draws are all zero.
fn story(ttl: u64, plan: &[Happens]) -> World {
    story_of(&Setting::plain(ttl), plan)
}

fn story_of(setting: &Setting, plan: &[Happens]) -> World {
    let mut world = World::new(setting, &mut checks::all);
    for what in plan {
        world.happens(what, 0.0, &mut checks::all);
    }
    world
}

fn rejected(cause: ErrorKind) -> Happens {
    Happens::Reject { cause, older: false }
}

#[test]
fn a_report_of_a_dead_token_is_heard_while_a_refusal_is_asked_about() {
    let refused = rejected(ErrorKind::CredentialsRefused);
    let world = story(3600, &[GRANTED, HALF_AN_HOUR, refused, rejected(ErrorKind::DeadToken)]);
    assert!(holding(&world).reasons.has(Reason::ReportedDead));
}

#[test]
fn what_ended_by_itself_does_not_hold_the_end_up() {
    let gone = Happens::Answer(Hand::Renewal, Reply::Fails(ErrorKind::LeaseGone, None));
    let world =
        story(3600, &[GRANTED, WOKEN, gone, Happens::Stop(Duration::from_secs(10)), Happens::LetGo(0)]);
    assert!(world.machine.is_over());
}

#[test]
fn nothing_is_asked_for_when_the_time_of_the_end_is_over() {
    let world = story(3600, &[GRANTED, Happens::Stop(Duration::ZERO), WOKEN]);
    assert!(world.machine.is_over());
}

#[test]
fn a_renewal_that_hung_may_have_been_carried_out_at_the_end_of_its_bound() {
    let refused = Happens::Answer(Hand::Renewal, Reply::Fails(ErrorKind::Sealed, None));
    let hangs = Happens::Wake { late: Duration::from_secs(3610) };
    story(3600, &[GRANTED, WOKEN, hangs, refused, WOKEN, GRANTED, Happens::LetGo(0)]);
}

#[test]
fn a_truncated_renewal_that_ends_as_before_may_end_a_little_later() {
    // Time has jumped, and the server is asked 1.5 s after the grant. The end that it tells is 0.3 s later than before.
    let issued = Happens::Answer(Hand::Issue, Reply::Truncated(0.5));
    let renewed = Happens::Answer(Hand::Renewal, Reply::Truncated(0.48));
    story(60, &[issued, Happens::TimeJumped, WOKEN, renewed, Happens::Unread, WOKEN]);
}

#[test]
fn the_same_secret_again_may_still_live_as_long_as_a_renewal_that_was_not_answered() {
    // The issue leaves first, the renewal hangs beside it, and the issue is answered last.
    let refused = Happens::Answer(Hand::Renewal, Reply::Fails(ErrorKind::Sealed, None));
    let hangs = Happens::Wake { late: Duration::from_secs(1000) };
    let issued = [GRANTED, Happens::Time(0.5), Happens::Changed, WOKEN];
    let plan = [&issued[..], &[WOKEN, hangs, refused, SAME_AGAIN, Happens::Unread, WOKEN]].concat();
    story(3600, &plan);
}

#[test]
fn the_last_renewal_of_an_old_secret_goes_on_beside_an_issue() {
    let setting = Setting { under: Under::Token { seconds: 7200, cuts: false }, ..Setting::plain(3600) };
    let replaced = [GRANTED, Happens::Time(0.5), Happens::TokenSuperseded, WOKEN, GRANTED, WOKEN];
    let world = story_of(
        &setting,
        &[&replaced[..], &[Happens::Time(0.002), Happens::Changed, WOKEN, GRANTED]].concat(),
    );
    let renewing = world.machine.hands.renewing.map(|asked| asked.generation);
    assert_eq!((world.current(), renewing), (Some(Generation::new(3)), Some(Generation::new(1))));
}

#[test]
fn a_renewal_that_succeeds_ends_the_trouble_of_renewals_though_a_replacement_waits_for_its_turn() {
    let refused = rejected(ErrorKind::CredentialsRefused);
    let (asked, lives) = (WOKEN, Happens::Answer(Hand::Renewal, Reply::Done { same: false }));
    let fails = Happens::Answer(Hand::Renewal, Reply::Fails(ErrorKind::Unreachable, None));
    // So many generations were refused that the next replacement is seconds away. A report makes the keeper ask meanwhile.
    let replaced = [refused, asked, lives, refused, WOKEN, GRANTED].repeat(5);
    let waits = [refused, asked, lives, refused, refused, asked, fails];
    let mut world = story(3600, &[&[GRANTED, HALF_AN_HOUR, lives], &replaced[..], &waits[..]].concat());
    assert!(holding(&world).reasons.has(Reason::Rejected) && holding(&world).trouble.is_some());
    let mut told = Vec::new();
    world.happens(&WOKEN, 0.0, &mut |step: &Step<'_>| told.extend(step.commands.clone()));
    world.happens(&lives, 0.0, &mut |step: &Step<'_>| told.extend(step.commands.clone()));
    assert_eq!(holding(&world).trouble, None);
    assert!(told.iter().any(|command| matches!(command, Command::Recovered(_))), "{told:?}");
}

#[test]
fn an_answer_ends_the_trouble_of_a_question_that_was_forbidden() {
    let refused = rejected(ErrorKind::CredentialsRefused);
    let (asked, lives) = (WOKEN, Happens::Answer(Hand::Renewal, Reply::Done { same: false }));
    let denied = Happens::Answer(Hand::Renewal, Reply::Fails(ErrorKind::Denied, None));
    // The next replacement is more than a minute away. A report makes the keeper ask meanwhile, twice, and half a minute apart.
    let replaced = [refused, asked, lives, refused, WOKEN, GRANTED].repeat(8);
    let waits = [refused, asked, lives, refused, refused, asked, denied, Happens::Time(0.6), refused, asked];
    let mut world = story(3600, &[&[GRANTED, HALF_AN_HOUR, lives], &replaced[..], &waits[..]].concat());
    let mut told = Vec::new();
    world.happens(&lives, 0.0, &mut |step: &Step<'_>| told.extend(step.commands.clone()));
    assert!(told.iter().any(|command| matches!(command, Command::Recovered(_))), "{told:?}");
}
