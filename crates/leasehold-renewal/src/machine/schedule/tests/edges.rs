//! Each bound of the schedule, on both of its sides: a mutant that moves one is found here.

use super::*;

/// A lease of ten minutes, whose time to drain begins at 450 s, after so many failures.
fn in_trouble(count: u32, after: f64, kind: ErrorKind) -> Holding {
    with(lease(600.0), |holding| holding.trouble = failed(count, after, kind))
}

/// The same, where an issue fails for a reason that lets the lease be renewed meanwhile.
fn kept_alive(count: u32, after: f64) -> Holding {
    let superseded = |holding: &mut Holding| _ = holding.reasons.add(Reason::TokenSuperseded, at(1000.0));
    with(in_trouble(count, after, ErrorKind::Unreachable), superseded)
}

#[test]
fn while_an_issue_fails_the_lease_is_renewed_in_turns_until_its_end() {
    assert_plan(&kept_alive(1, 100.0), 0.0, Step::Issue, 100.5);
    assert_plan(&kept_alive(1, 400.0), 0.0, Step::Renew, 400.0);
    assert_plan(&kept_alive(2, 400.0), 0.0, Step::Issue, 401.0);
    assert_plan(&kept_alive(3, 400.0), 0.0, Step::Renew, 400.0);
    assert_plan(&kept_alive(1, 600.0), 0.0, Step::Issue, 600.5);
    assert_plan(&kept_alive(1, 700.0), 0.0, Step::Issue, 700.5);
    let not_renewable = with(kept_alive(1, 400.0), |holding| holding.renewal = Renewal::Impossible);
    assert_plan(&not_renewable, 0.0, Step::Issue, 400.5);
}

#[test]
fn the_least_budget_is_a_tenth_of_the_ttl_and_five_seconds_at_most() {
    let least = |ttl| drain_budget(Duration::ZERO, secs(ttl));
    assert_eq!((least(20.0), least(600.0)), (secs(2.0), secs(5.0)));
}

#[test]
fn a_secret_that_is_only_read_is_read_by_plan_though_its_replacement_waits() {
    let refused = |same_again| {
        with(lease(60.0), |holding| {
            (holding.renewal, holding.same_again) = (Renewal::Impossible, same_again);
            holding.reasons.add(Reason::Rejected, at(1059.0));
        })
    };
    assert_plan(&refused(0), 0.0, Step::Issue, 59.0);
    assert_plan(&refused(1), 0.0, Step::Issue, 30.0);
}

#[test]
fn the_same_secret_again_is_asked_for_right_before_its_end_and_right_after() {
    let asked = |at_s: f64| {
        with(lease(60.0), |holding| {
            (holding.renewal, holding.same_again) = (Renewal::Impossible, 10);
            holding.asked_at = at(at_s);
        })
    };
    assert_plan(&asked(1055.0), 0.0, Step::Issue, 59.5);
    assert_plan(&asked(1059.25), 0.0, Step::Issue, 60.25);
    assert_plan(&asked(1059.4), 0.0, Step::Issue, 60.25);
    assert_plan(&asked(1060.0), 0.0, Step::Issue, 120.0);
}

#[test]
fn attempts_come_closer_together_before_the_time_to_drain_and_before_the_end() {
    assert_plan(&in_trouble(30, 440.0, ErrorKind::Unreachable), 0.0, Step::Renew, 440.0 + 10.0 / 3.0);
    assert_plan(&in_trouble(30, 450.0, ErrorKind::Unreachable), 0.0, Step::Issue, 480.0);
    assert_plan(&in_trouble(30, 440.0, ErrorKind::Denied), 0.0, Step::Issue, 450.0);
    assert_plan(&in_trouble(30, 600.0, ErrorKind::Denied), 0.0, Step::Issue, 660.0);
}

#[test]
fn attempts_that_may_have_made_a_user_keep_a_sixth_of_the_ttl() {
    let lost = |trouble: Trouble| Trouble { carried: Carried::Maybe, ..trouble };
    let holding =
        with(lease(60.0), |holding| holding.trouble = failed(30, 10.0, ErrorKind::Unreachable).map(lost));
    assert_plan(&holding, 0.0, Step::Renew, 20.0);
}
