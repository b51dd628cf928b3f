mod edges;
mod properties;

use leasehold_core::{Generation, Party};

use super::*;
use crate::{
    StartPolicy,
    budget::Budget,
    machine::{
        Authority, Event, Failure, Granted, Machine, Made, Phase, Seen, Terms, TokenCaps, TokenSeen,
        TokenState,
        holding::{Failing, Grant},
        pace::LONGEST_WAIT,
    },
};

pub(super) const BUDGET: Duration = Duration::from_secs(60);

pub(super) fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

pub(super) fn at(moment: f64) -> Moment {
    Moment::from_nanos(0) + secs(moment)
}

pub(super) fn token(end: f64) -> TokenSeen {
    TokenSeen {
        generation: Generation::new(1),
        end: at(end),
        state: TokenState::Latest,
        caps: TokenCaps::Leaves,
    }
}

/// A lease of `ttl` seconds granted at 1000 s.
pub(super) fn lease(ttl: f64) -> Holding {
    let terms = Terms {
        ttl: Some(secs(ttl)),
        increment: secs(ttl),
        renewable: true,
        renewals_for: None,
        poll: None,
        made: Made::ForUs,
        revoked_with: Authority::TokenAbove,
    };
    let granted = Granted { terms, same: false, token: None };
    let mut holding = Holding::new(Generation::new(1), granted, at(1000.0), 0.0);
    (holding.grant.spread, holding.renewal) = (Spread::Usual, Renewal::Possible);
    holding
}

pub(super) fn endless() -> Holding {
    let mut holding = lease(0.0);
    holding.grant = Grant { ttl: None, end: Moment::NEVER, ..holding.grant };
    (holding.terms.ttl, holding.terms.renewable, holding.renewal) = (None, false, Renewal::Impossible);
    holding
}

pub(super) fn with(mut holding: Holding, change: impl FnOnce(&mut Holding)) -> Holding {
    change(&mut holding);
    holding
}

/// A machine that holds it and asked last at 1000 s.
pub(super) fn machine(holding: &Holding, drain_budget: Duration, draw: f64) -> Machine {
    let rules = Rules { drain_budget, shutdown_bound: LONGEST_WAIT, start: StartPolicy::FailAtOnce };
    let pace = Pace::new(Budget::new(None, holding.grant.ttl), at(1000.0));
    let (mut machine, _) = Machine::start(rules, pace, &seen(1000.0, draw));
    (machine.hands.issuing, machine.last_generation) = (None, holding.generation.number());
    machine.phase = Phase::Holding(with(holding.clone(), |holding| holding.draw = draw));
    machine
}

pub(super) fn seen(now: f64, draw: f64) -> Seen {
    Seen { now: at(now), draw, token: None, few_uses: false, old_tokens: Vec::new() }
}

/// The step, and when it comes in seconds after the grant.
pub(super) fn plan(holding: &Holding, draw: f64) -> Option<(Step, f64)> {
    planned(&machine(holding, BUDGET, draw))
}

fn planned(machine: &Machine) -> Option<(Step, f64)> {
    let (when, step) = machine.next_request()?;
    Some((step, at(1000.0).until(when).as_secs_f64()))
}

pub(super) fn failed(count: u32, after: f64, kind: ErrorKind) -> Option<Trouble> {
    let (since, at) = (at(1000.0), at(1000.0 + after));
    Some(Trouble { count, at, since, kind, retry_after: None, carried: Carried::No, of: Failing::Issues })
}

#[track_caller]
fn assert_plan(holding: &Holding, draw: f64, step: Step, when: f64) {
    let (got, got_when) = plan(holding, draw).expect("a plan");
    assert_eq!(got, step);
    assert!((got_when - when).abs() < 0.001, "{got_when} instead of {when}");
}

#[test]
fn a_lease_is_renewed_after_half_to_three_fifths() {
    assert_plan(&lease(6.0), 0.0, Step::Renew, 3.6);
    assert_plan(&lease(6.0), 1.0, Step::Renew, 3.0);
    assert_plan(&lease(1.0), 0.0, Step::Renew, 0.6);
    assert_plan(&lease(2_592_000.0), 0.0, Step::Renew, 1_555_200.0);
}

#[test]
fn what_must_be_replaced_is_replaced_at_once_but_not_before_it_may() {
    for reason in [Reason::Truncated, Reason::TokenSuperseded, Reason::Gone, Reason::FoundDead] {
        let holding = with(lease(6.0), |holding| _ = holding.reasons.add(reason, at(1003.0)));
        assert_plan(&holding, 0.5, Step::Issue, 3.0);
    }
    let later = with(lease(6.0), |holding| _ = holding.reasons.add(Reason::Rejected, at(1005.0)));
    assert_plan(&later, 0.5, Step::Renew, 3.6);
    assert_plan(&with(later, |holding| holding.renewal = Renewal::Impossible), 0.5, Step::Issue, 5.0);
}

#[test]
fn what_cannot_be_renewed_is_replaced_before_its_budget() {
    let holding = |ttl| with(lease(ttl), |holding| holding.renewal = Renewal::Impossible);
    assert_plan(&holding(10.0), 0.0, Step::Issue, 5.0);
    assert_plan(&holding(10.0), 1.0, Step::Issue, 4.0);
    assert_plan(&holding(3600.0), 0.0, Step::Issue, 3525.0);
    assert_plan(&holding(3600.0), 1.0, Step::Issue, 3165.0);
}

#[test]
fn what_may_be_in_step_with_a_fleet_is_spread_wider() {
    let holding = |renewal| {
        with(lease(3600.0), |holding| (holding.grant.spread, holding.renewal) = (Spread::InStep, renewal))
    };
    assert_plan(&holding(Renewal::Possible), 0.0, Step::Renew, 2160.0);
    assert_plan(&holding(Renewal::Possible), 1.0, Step::Renew, 900.0);
    assert_plan(&holding(Renewal::Impossible), 0.0, Step::Issue, 3525.0);
    assert_plan(&holding(Renewal::Impossible), 1.0, Step::Issue, 1725.0);
}

#[test]
fn a_truncated_grant_is_replaced_at_any_moment_that_leaves_the_time_to_drain() {
    let moment = |draw| replace_truncated_at(at(1000.0), at(1600.0), BUDGET, draw);
    assert_eq!((moment(0.0), moment(0.5), moment(1.0)), (at(1525.0), at(1262.5), at(1000.0)));
    assert_eq!(replace_truncated_at(at(1000.0), at(1003.0), BUDGET, 0.0), at(1000.0), "at once");
}

#[test]
fn what_does_not_end_is_left_alone() {
    assert_eq!(plan(&endless(), 0.5), None);
}

#[test]
fn what_does_not_end_but_may_be_written_anew_is_polled() {
    let entry = with(endless(), |holding| holding.terms.poll = Some(secs(60.0)));
    assert_plan(&entry, 0.0, Step::Issue, 60.0);
    assert_plan(&entry, 1.0, Step::Issue, 54.0);
    let in_step = with(entry.clone(), |holding| holding.grant.spread = Spread::InStep);
    assert_plan(&in_step, 1.0, Step::Issue, 39.0);
    for (kind, longest) in [(ErrorKind::Unreachable, 30.0), (ErrorKind::NotFound, 60.0)] {
        let down = with(entry.clone(), |holding| holding.trouble = failed(20, 100.0, kind));
        assert_plan(&down, 0.0, Step::Issue, 100.0 + longest);
    }
}

#[test]
fn a_lease_of_no_time_at_all_is_no_hot_loop() {
    assert_plan(&with(lease(0.0), |holding| holding.renewal = Renewal::Impossible), 0.5, Step::Issue, 0.25);
}

#[test]
fn under_a_batch_token_nothing_is_asked_that_can_gain_nothing() {
    let under = |ttl, end, renewal| {
        with(lease(ttl), |holding| (holding.token, holding.renewal) = (Some(token(end)), renewal))
    };
    assert_plan(&under(5.0, 1005.0, Renewal::CutToItsToken), 0.5, Step::Look, 2.75);
    assert_plan(&under(60.0, 1005.0, Renewal::Impossible), 0.5, Step::Look, 2.5);
    let token_was_renewed = under(5.0, 1100.0, Renewal::CutToItsToken);
    assert_plan(&token_was_renewed, 0.0, Step::Renew, 3.0);
}

#[test]
fn a_lease_longer_than_its_service_token_keeps_its_own_pace() {
    assert_plan(&with(lease(60.0), |holding| holding.token = Some(token(1015.0))), 0.0, Step::Renew, 36.0);
}

#[test]
fn a_reject_is_verified_at_once() {
    let mut machine = machine(&lease(60.0), BUDGET, 0.5);
    let event = Event::Rejected { generation: Generation::new(1), cause: ErrorKind::CredentialsRefused };
    machine.step(&seen(1010.0, 0.5), event);
    assert_eq!(planned(&machine), Some((Step::Renew, 10.01)));
}

#[test]
fn what_an_operator_mends_before_the_end_is_noticed_before_the_end() {
    for count in [1, 7, 30] {
        let holding = with(lease(60.0), |holding| holding.trouble = failed(count, 50.0, ErrorKind::NotFound));
        let (step, when) = plan(&holding, 0.0).unwrap();
        assert_eq!(step, Step::Issue);
        assert!(when <= 52.5 + 0.001, "{when} after {count} failures; the end is at 60");
    }
}

#[test]
fn a_jump_of_time_causes_an_early_look() {
    let jumped = |holding: &Holding, draw| {
        let mut machine = machine(holding, BUDGET, draw);
        machine.step(&seen(1010.0, draw), Event::TimeJumped);
        planned(&machine).unwrap()
    };
    assert_eq!(jumped(&lease(3600.0), 0.0), (Step::Renew, 11.5));
    assert_eq!(jumped(&lease(3600.0), 1.0), (Step::Renew, 10.01));
    let not_renewable = with(lease(3600.0), |holding| holding.renewal = Renewal::Impossible);
    assert_eq!(jumped(&not_renewable, 0.0).0, Step::Issue);
}

#[test]
fn the_first_secret_is_asked_for_ever_more_slowly() {
    let failure = |kind| Failure { kind, party: Party::Vault, retry_after: None, carried: Carried::No };
    let delay = |count, kind| start_delay(count, &failure(kind), 0.0).as_secs_f64();
    assert_eq!([1, 2, 3, 9].map(|count| delay(count, ErrorKind::Sealed)), [0.5, 1.0, 2.0, 10.0]);
    assert_eq!([1, 9].map(|count| delay(count, ErrorKind::Denied)), [0.5, 60.0]);
    assert_eq!([1, 9].map(|count| delay(count, ErrorKind::NotYet)), [0.5, 0.5]);
    let asked = Failure { retry_after: Some(secs(7.0)), ..failure(ErrorKind::RateLimited) };
    assert_eq!(start_delay(1, &asked, 0.0), secs(7.0));
    let orphaned = Failure { carried: Carried::Maybe, ..failure(ErrorKind::Unreachable) };
    assert_eq!(start_delay(20, &orphaned, 0.0), secs(600.0), "each may have made a user");
}

#[test]
fn a_failing_renewal_falls_back_to_an_issue_while_there_is_time_to_drain() {
    // 60 s lease: 24 s of budget, so 36 s is the last moment for a renewal.
    let holding = |count, after| {
        with(lease(60.0), |holding| holding.trouble = failed(count, after, ErrorKind::Unreachable))
    };
    assert_eq!(plan(&holding(1, 30.0), 0.0).unwrap().0, Step::Renew);
    let (step, when) = plan(&holding(6, 35.9), 0.0).unwrap();
    assert_eq!(step, Step::Issue);
    assert!(when < 40.0, "{when}");
}

#[test]
fn a_renewal_that_fails_in_the_database_is_tried_twice() {
    let holding =
        |count| with(lease(600.0), |holding| holding.trouble = failed(count, 1.0, ErrorKind::RenewalFailed));
    assert_eq!(plan(&holding(1), 0.0).unwrap().0, Step::Renew);
    assert_eq!(plan(&holding(2), 0.0).unwrap().0, Step::Issue);
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let asked = |after| {
        let trouble =
            Trouble { retry_after: Some(after), ..failed(1, 10.0, ErrorKind::RateLimited).unwrap() };
        with(lease(600.0), |holding| holding.trouble = Some(trouble))
    };
    assert_plan(&asked(secs(7.0)), 0.9, Step::Renew, 17.0);
    assert_plan(&asked(secs(1e6)), 0.9, Step::Renew, 310.0);
}

#[test]
fn what_an_operator_must_mend_is_tried_slowly_even_past_the_end() {
    let holding = |ttl, kind| with(lease(ttl), |holding| holding.trouble = failed(30, 700.0, kind));
    assert_plan(&holding(600.0, ErrorKind::Denied), 0.0, Step::Issue, 760.0);
    assert_plan(&holding(6.0, ErrorKind::Denied), 0.0, Step::Issue, 706.0);
    assert_plan(&holding(600.0, ErrorKind::Unreachable), 0.0, Step::Issue, 710.0);
}
