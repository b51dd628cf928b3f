use proptest::prelude::*;

use super::*;

const BUDGET: Duration = Duration::from_secs(60);

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

fn at(moment: f64) -> Moment {
    Moment::from_nanos(0) + secs(moment)
}

/// A lease of `ttl` seconds granted at 1000 s.
fn lease(ttl: f64) -> Known {
    Known {
        granted_at: at(1000.0),
        granted: Some(secs(ttl)),
        own_end: at(1000.0 + ttl),
        parent_end: None,
        renewable: true,
        capped: false,
        verify: false,
        look: false,
        in_step: false,
        replace: None,
        last_request: at(1000.0),
        failure: None,
        unchanged: 0,
        poll: None,
    }
}

/// The step, and when it comes in seconds after the grant.
fn plan(known: &Known, now: f64, jitter: f64) -> Option<(Step, f64)> {
    let plan = next(at(1000.0 + now), known, BUDGET, jitter)?;
    Some((plan.step, now + plan.delay.as_secs_f64()))
}

fn failed(count: u32, at_: f64, kind: ErrorKind) -> Option<Failure> {
    Some(Failure { count, at: at(1000.0 + at_), kind, retry_after: None, orphaned: false })
}

#[track_caller]
fn assert_plan(known: &Known, now: f64, jitter: f64, step: Step, when: f64) {
    let (got, got_when) = plan(known, now, jitter).expect("a plan");
    assert_eq!(got, step);
    assert!((got_when - when).abs() < 0.001, "{got_when} instead of {when}");
}

#[test]
fn a_lease_is_renewed_after_half_to_three_fifths() {
    assert_plan(&lease(6.0), 0.0, 0.0, Step::Renew, 3.6);
    assert_plan(&lease(6.0), 0.0, 1.0, Step::Renew, 3.0);
    assert_plan(&lease(1.0), 0.0, 0.0, Step::Renew, 0.6);
    assert_plan(&lease(2_592_000.0), 0.0, 0.0, Step::Renew, 1_555_200.0);
}

#[test]
fn what_must_be_replaced_is_replaced_at_once_but_not_before_it_may() {
    for reason in [Reason::Truncated, Reason::TokenSuperseded, Reason::Ended] {
        let known = Known { replace: Some((reason, at(1003.0))), ..lease(6.0) };
        assert_plan(&known, 3.0, 0.5, Step::Replace, 3.01);
    }
    let later = Known { replace: Some((Reason::Rejected, at(1005.0))), ..lease(6.0) };
    assert_plan(&later, 3.0, 0.5, Step::Renew, 3.6);
    assert_plan(&Known { renewable: false, ..later }, 3.0, 0.5, Step::Replace, 5.0);
}

#[test]
fn what_cannot_be_renewed_is_replaced_before_its_budget() {
    let known = |ttl| Known { renewable: false, ..lease(ttl) };
    assert_plan(&known(10.0), 0.0, 0.0, Step::Replace, 5.0);
    assert_plan(&known(10.0), 0.0, 1.0, Step::Replace, 4.0);
    assert_plan(&known(3600.0), 0.0, 0.0, Step::Replace, 3525.0);
    assert_plan(&known(3600.0), 0.0, 1.0, Step::Replace, 3165.0);
}

#[test]
fn what_may_be_in_step_with_a_fleet_is_spread_wider() {
    let known = |renewable| Known { in_step: true, renewable, ..lease(3600.0) };
    assert_plan(&known(true), 0.0, 0.0, Step::Renew, 2160.0);
    assert_plan(&known(true), 0.0, 1.0, Step::Renew, 900.0);
    assert_plan(&known(false), 0.0, 0.0, Step::Replace, 3525.0);
    assert_plan(&known(false), 0.0, 1.0, Step::Replace, 1725.0);
}

#[test]
fn a_truncated_grant_is_replaced_at_any_moment_that_leaves_the_time_to_drain() {
    let moment = |jitter| replace_truncated_at(at(1000.0), at(1600.0), BUDGET, jitter);
    assert_eq!((moment(0.0), moment(0.5), moment(1.0)), (at(1525.0), at(1262.5), at(1000.0)));
    assert_eq!(replace_truncated_at(at(1000.0), at(1003.0), BUDGET, 0.0), at(1000.0), "at once");
}

#[test]
fn what_does_not_end_is_left_alone() {
    let root = Known { granted: None, own_end: Moment::NEVER, renewable: false, ..lease(0.0) };
    assert_eq!(plan(&root, 0.0, 0.5), None);
}

#[test]
fn what_does_not_end_but_may_be_written_anew_is_polled() {
    let entry = Known {
        granted: None,
        own_end: Moment::NEVER,
        renewable: false,
        poll: Some(secs(60.0)),
        ..lease(0.0)
    };
    assert_plan(&entry, 0.0, 0.0, Step::Replace, 60.0);
    assert_plan(&entry, 0.0, 1.0, Step::Replace, 54.0);
    assert_plan(&Known { in_step: true, ..entry.clone() }, 0.0, 1.0, Step::Replace, 39.0);
    for (kind, longest) in [(ErrorKind::Unreachable, 30.0), (ErrorKind::NotFound, 60.0)] {
        let down = Known { failure: failed(20, 100.0, kind), ..entry.clone() };
        assert_plan(&down, 100.0, 0.0, Step::Replace, 100.0 + longest);
    }
}

#[test]
fn a_lease_of_no_time_at_all_is_no_hot_loop() {
    let known = Known { renewable: false, ..lease(0.0) };
    assert_plan(&known, 0.0, 0.5, Step::Replace, 0.25);
}

#[test]
fn under_a_batch_token_nothing_is_asked_that_can_gain_nothing() {
    let known = Known { capped: true, parent_end: Some(at(1005.0)), ..lease(5.0) };
    assert_plan(&known, 0.0, 0.5, Step::Look, 2.5);
    let not_renewable = Known { renewable: false, parent_end: Some(at(1005.0)), ..lease(60.0) };
    assert_plan(&not_renewable, 0.0, 0.5, Step::Look, 2.5);
    let token_was_renewed = Known { capped: true, parent_end: Some(at(1100.0)), ..lease(5.0) };
    assert_plan(&token_was_renewed, 0.0, 0.0, Step::Renew, 3.0);
}

#[test]
fn a_lease_longer_than_its_service_token_keeps_its_own_pace() {
    let known = Known { parent_end: Some(at(1015.0)), ..lease(60.0) };
    assert_plan(&known, 0.0, 0.0, Step::Renew, 36.0);
}

#[test]
fn a_reject_is_verified_at_once() {
    assert_plan(&Known { verify: true, ..lease(60.0) }, 10.0, 0.5, Step::Renew, 10.01);
}

#[test]
fn what_an_operator_mends_before_the_end_is_noticed_before_the_end() {
    for count in [1, 7, 30] {
        let known = Known { failure: failed(count, 50.0, ErrorKind::NotFound), ..lease(60.0) };
        let (step, when) = plan(&known, 50.0, 0.0).unwrap();
        assert_eq!(step, Step::Replace);
        assert!(when <= 52.5 + 0.001, "{when} after {count} failures; the end is at 60");
    }
}

#[test]
fn a_jump_of_time_causes_an_early_look() {
    let known = Known { look: true, ..lease(3600.0) };
    assert_plan(&known, 10.0, 0.0, Step::Renew, 11.5);
    assert_plan(&known, 10.0, 1.0, Step::Renew, 10.01);
    let not_renewable = Known { renewable: false, ..known };
    assert_eq!(plan(&not_renewable, 10.0, 0.0).unwrap().0, Step::Replace);
}

#[test]
fn the_first_secret_is_asked_for_ever_more_slowly() {
    let failure = |count, kind| failed(count, 0.0, kind).unwrap();
    let delay = |count, kind| start_delay(&failure(count, kind), 0.0).as_secs_f64();
    assert_eq!([1, 2, 3, 9].map(|count| delay(count, ErrorKind::Sealed)), [0.5, 1.0, 2.0, 10.0]);
    assert_eq!([1, 9].map(|count| delay(count, ErrorKind::Denied)), [0.5, 60.0]);
    assert_eq!([1, 9].map(|count| delay(count, ErrorKind::NotYet)), [0.5, 0.5]);
    let asked = Failure { retry_after: Some(secs(7.0)), ..failure(1, ErrorKind::RateLimited) };
    assert_eq!(start_delay(&asked, 0.0), secs(7.0));
    let orphaned = Failure { orphaned: true, ..failure(20, ErrorKind::Unreachable) };
    assert_eq!(start_delay(&orphaned, 0.0), secs(600.0), "each may have made a user");
}

#[test]
fn a_failing_renewal_falls_back_to_an_issue_while_there_is_time_to_drain() {
    // 60 s lease: 24 s of budget, so 36 s is the last moment for a renewal.
    let known = |count, at| Known { failure: failed(count, at, ErrorKind::Unreachable), ..lease(60.0) };
    assert_eq!(plan(&known(1, 30.0), 30.0, 0.0).unwrap().0, Step::Renew);
    let (step, when) = plan(&known(6, 35.9), 35.9, 0.0).unwrap();
    assert_eq!(step, Step::Replace);
    assert!(when < 40.0, "{when}");
}

#[test]
fn a_renewal_that_fails_in_the_database_is_tried_twice() {
    let known = |count| Known { failure: failed(count, 1.0, ErrorKind::RenewalFailed), ..lease(600.0) };
    assert_eq!(plan(&known(1), 1.0, 0.0).unwrap().0, Step::Renew);
    assert_eq!(plan(&known(2), 1.0, 0.0).unwrap().0, Step::Replace);
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let failure =
        Failure { retry_after: Some(secs(7.0)), ..failed(1, 10.0, ErrorKind::RateLimited).unwrap() };
    assert_plan(&Known { failure: Some(failure), ..lease(600.0) }, 10.0, 0.9, Step::Renew, 17.0);
    let forever = Failure { retry_after: Some(secs(1e6)), ..failure };
    assert_plan(&Known { failure: Some(forever), ..lease(600.0) }, 10.0, 0.9, Step::Renew, 310.0);
}

#[test]
fn what_an_operator_must_mend_is_tried_slowly_even_past_the_end() {
    let known = Known { failure: failed(30, 700.0, ErrorKind::Denied), ..lease(600.0) };
    assert_plan(&known, 700.0, 0.0, Step::Replace, 760.0);
    let short = Known { failure: failed(30, 700.0, ErrorKind::Denied), ..lease(6.0) };
    assert_plan(&short, 700.0, 0.0, Step::Replace, 706.0);
    let outage = Known { failure: failed(30, 700.0, ErrorKind::Unreachable), ..lease(600.0) };
    assert_plan(&outage, 700.0, 0.0, Step::Replace, 710.0);
}

fn any_kind() -> impl Strategy<Value = ErrorKind> {
    use ErrorKind::{
        Denied, LeaseGone, NotFound, NotReplicated, RateLimited, RenewalFailed, Sealed, Unreachable,
    };
    prop::sample::select(vec![
        Denied,
        LeaseGone,
        NotFound,
        NotReplicated,
        RateLimited,
        RenewalFailed,
        Sealed,
        Unreachable,
    ])
}

prop_compose! {
    fn any_known()(
        ttl in prop_oneof![Just(0.0), 0.1..10.0, 10.0..5_000_000.0],
        endless in prop::bool::weighted(0.1),
        parent in prop::option::of(0.0..10_000_000.0),
        renewable: bool, capped: bool, verify: bool, look: bool, in_step: bool,
        replace in prop::option::of((prop::sample::select(vec![Reason::Truncated, Reason::Rejected, Reason::Ended]), 0.0..100.0)),
        failure in prop::option::of((1u32.., 0.0..5_000_000.0, any_kind(), prop::option::of(0.0..10_000.0), prop::bool::ANY)),
        unchanged in prop_oneof![Just(0), any::<u32>()],
    ) -> Known {
        let known = lease(ttl);
        Known {
            granted: (!endless).then_some(secs(ttl)),
            own_end: if endless { Moment::NEVER } else { known.own_end },
            parent_end: parent.map(|parent| at(1000.0 + parent)),
            renewable: renewable && !endless, capped, verify, look, in_step, unchanged,
            replace: replace.map(|(reason, when)| (reason, at(1000.0 + when))),
            failure: failure.map(|(count, when, kind, wait, orphaned)| Failure {
                count, at: at(1000.0 + when), kind, retry_after: wait.map(secs), orphaned,
            }),
            ..known
        }
    }
}

proptest! {
    #[test]
    fn a_delay_is_never_zero_and_requests_keep_their_distance(
        known in any_known(), passed in 0.0..5_000_000.0, jitter in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let now = at(1000.0 + passed);
        if let Some(plan) = next(now, &known, secs(budget), jitter) {
            prop_assert!(plan.delay >= FLOOR);
            if plan.step != Step::Look {
                prop_assert!(now + plan.delay >= known.last_request + SPACING);
            }
        }
    }

    #[test]
    fn the_first_attempt_leaves_the_drain_budget(
        ttl in 1.0..5_000_000.0, renewable: bool, in_step: bool, jitter in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let known = Known { renewable, in_step, ..lease(ttl) };
        let plan = next(at(1000.0), &known, secs(budget), jitter).expect("it ends");
        let left = (at(1000.0) + plan.delay).until(known.own_end);
        prop_assert!(left + secs(0.001) >= drain_budget(secs(budget), secs(ttl)), "{left:?} left");
        prop_assert_eq!(plan.step == Step::Renew, renewable);
    }

    #[test]
    fn under_a_token_that_ends_later_it_leaves_the_drain_budget_too(
        ttl in 1.0..5_000_000.0, later in 1.01..5_000_000.0, renewable: bool, capped: bool, in_step: bool,
        jitter in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let parent_end = Some(at(1000.0 + ttl + later));
        let known = Known { renewable, capped, in_step, parent_end, ..lease(ttl) };
        let plan = next(at(1000.0), &known, secs(budget), jitter).expect("it ends");
        let left = (at(1000.0) + plan.delay).until(known.usable_until());
        prop_assert!(left + secs(0.001) >= drain_budget(secs(budget), secs(ttl)), "{left:?} left");
        prop_assert_eq!(plan.step == Step::Renew, renewable);
    }

    #[test]
    fn under_a_token_that_ends_earlier_the_budget_is_left_by_that_tokens_keeper(
        ttl in 1.0..5_000_000.0, share in 0.0..1.0, renewable: bool, capped: bool, in_step: bool,
        jitter in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let alone = Known { renewable, capped, in_step, ..lease(ttl) };
        let known = Known { parent_end: Some(at(1000.0 + ttl * share)), ..alone.clone() };
        let plan = next(at(1000.0), &known, secs(budget), jitter).expect("it ends");
        if renewable && !capped {
            // A service token is renewed meanwhile, or its successor wakes us.
            prop_assert_eq!(Some(plan), next(at(1000.0), &alone, secs(budget), jitter));
        } else {
            // No request gains anything; it looks again in time to see a token that was renewed.
            prop_assert_eq!(plan.step, Step::Look);
            let rest = secs(ttl * share);
            prop_assert!(plan.delay <= (rest / 2).max(FIRST_BACKOFF) + FLOOR || rest.is_zero(), "{:?} of {rest:?}", plan.delay);
        }
    }

    #[test]
    fn jitter_only_makes_an_attempt_earlier(known in any_known(), passed in 0.0..5_000_000.0, jitter in 0.0..1.0) {
        let now = at(1000.0 + passed);
        let (plain, jittered) = (next(now, &known, BUDGET, 0.0), next(now, &known, BUDGET, jitter));
        prop_assert_eq!(plain.is_some(), jittered.is_some());
        if let (Some(plain), Some(jittered)) = (plain, jittered) {
            prop_assert!(jittered.delay <= plain.delay);
        }
    }

    #[test]
    fn an_outage_of_any_length_costs_few_requests(ttl in 1.0..100_000.0, outage in 1.0..100_000.0, seed: u64) {
        // From the first failed renewal until the server is back, with a new draw for each attempt.
        let (mut draw, mut requests) = (seed, 0_u32);
        let start = 1000.0 + 0.6 * ttl;
        let mut known = Known { failure: Some(Failure { count: 1, at: at(start), kind: ErrorKind::Unreachable, retry_after: None, orphaned: false }),
            last_request: at(start), ..lease(ttl) };
        let mut now = at(start);
        while now < at(start + outage) {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            #[expect(clippy::cast_precision_loss, reason = "any fraction will do")]
            let jitter = (draw >> 11) as f64 / (1_u64 << 53) as f64;
            let plan = next(now, &known, BUDGET, jitter).expect("something to try");
            now = now + plan.delay;
            requests += 1;
            let count = known.failure.map_or(1, |failure| failure.count + 1);
            known.failure = Some(Failure { count, at: now, kind: ErrorKind::Unreachable, retry_after: None, orphaned: false });
            known.last_request = now;
        }
        // On average half a back-off apart; past the end every quarter of a TTL, at least every second.
        let slowest = (ttl / 4.0).clamp(1.0, 10.0);
        let bound = 40.0 + 4.0 * outage / slowest;
        prop_assert!(f64::from(requests) < bound, "{requests} requests in {outage} s, bound {bound}");
    }
}
