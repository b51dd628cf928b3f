use proptest::prelude::*;

use super::*;

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

fn any_reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(vec![
        Reason::Truncated,
        Reason::Rejected,
        Reason::GaveUpRenewing,
        Reason::FoundDead,
        Reason::Gone,
    ])
}

fn any_renewal() -> impl Strategy<Value = Renewal> {
    prop::sample::select(vec![Renewal::Possible, Renewal::CutToItsToken, Renewal::Impossible])
}

fn any_spread() -> impl Strategy<Value = Spread> {
    prop::sample::select(vec![Spread::Usual, Spread::InStep])
}

prop_compose! {
    fn any_holding()(
        ttl in prop_oneof![Just(0.0), 0.1..10.0, 10.0..5_000_000.0],
        is_endless in prop::bool::weighted(0.1),
        parent in prop::option::of(0.0..10_000_000.0),
        renewal in any_renewal(), spread in any_spread(),
        doubt in prop::option::of((prop::bool::ANY, 0.0..100.0)),
        reasons in prop::collection::vec((any_reason(), 0.0..100.0), 0..3),
        trouble in prop::option::of((1_u32.., 0.0..5_000_000.0, any_kind(), prop::option::of(0.0..10_000.0), prop::bool::ANY)),
        same_again in prop_oneof![Just(0), any::<u32>()],
    ) -> Holding {
        with(if is_endless { endless() } else { lease(ttl) }, |holding| {
            if !is_endless {
                holding.renewal = renewal;
            }
            holding.token = parent.map(|parent| token(1000.0 + parent));
            (holding.grant.spread, holding.same_again) = (spread, same_again);
            holding.doubt = doubt.filter(|_| holding.renewal != Renewal::Impossible).map(|(refused, when)| {
                let at = at(1000.0 + when);
                if refused { Doubt::Refused { at } } else { Doubt::TimeJumped { at } }
            });
            for (reason, when) in reasons {
                holding.reasons.add(reason, at(1000.0 + when));
            }
            holding.trouble = trouble.map(|(count, when, kind, wait, carried)| Trouble {
                count,
                at: at(1000.0 + when),
                since: at(1000.0 + when / 2.0),
                kind,
                retry_after: wait.map(secs),
                carried: if carried { Carried::Maybe } else { Carried::No },
                of: if carried { Failing::Issues } else { Failing::Renewals },
            });
        })
    }
}

fn first(holding: &Holding, draw: f64, budget: f64) -> (Moment, Step) {
    machine(holding, secs(budget), draw).next_request().expect("it ends")
}

proptest! {
    #[test]
    fn a_step_is_later_than_the_last_one_and_requests_keep_their_distance(
        holding in any_holding(), draw in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let machine = machine(&holding, secs(budget), draw);
        if let Some((at, step)) = machine.next_request() {
            if step == Step::Look {
                prop_assert!(at >= holding.looked_at + FIRST_BACKOFF);
            } else {
                prop_assert!(at >= machine.pace.last_request + SPACING);
            }
        }
    }

    #[test]
    fn the_first_attempt_leaves_the_drain_budget(
        ttl in 1.0..5_000_000.0, renewable: bool, spread in any_spread(), draw in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let holding = with(lease(ttl), |holding| {
            holding.renewal = if renewable { Renewal::Possible } else { Renewal::Impossible };
            holding.grant.spread = spread;
        });
        let (at, step) = first(&holding, draw, budget);
        let left = at.until(holding.grant.end);
        prop_assert!(left + secs(0.001) >= drain_budget(secs(budget), secs(ttl)), "{left:?} left");
        prop_assert_eq!(step == Step::Renew, renewable);
    }

    #[test]
    fn under_a_token_that_ends_later_it_leaves_the_drain_budget_too(
        ttl in 1.0..5_000_000.0, later in 1.01..5_000_000.0, renewal in any_renewal(), spread in any_spread(),
        draw in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let holding = with(lease(ttl), |holding| {
            (holding.renewal, holding.grant.spread) = (renewal, spread);
            holding.token = Some(token(1000.0 + ttl + later));
        });
        let (at, step) = first(&holding, draw, budget);
        let left = at.until(holding.usable_until());
        prop_assert!(left + secs(0.001) >= drain_budget(secs(budget), secs(ttl)), "{left:?} left");
        prop_assert_eq!(step == Step::Renew, renewal != Renewal::Impossible);
    }

    #[test]
    fn under_a_token_that_ends_earlier_the_budget_is_left_by_that_tokens_keeper(
        ttl in 1.0..5_000_000.0, share in 0.0..1.0, renewal in any_renewal(), spread in any_spread(),
        draw in 0.0..1.0, budget in 0.0..1e6,
    ) {
        let alone = with(lease(ttl), |holding| (holding.renewal, holding.grant.spread) = (renewal, spread));
        let holding = with(alone.clone(), |holding| holding.token = Some(token(1000.0 + ttl * share)));
        let (when, step) = first(&holding, draw, budget);
        if renewal == Renewal::Possible {
            // A service token is renewed meanwhile, or its successor wakes us.
            prop_assert_eq!((when, step), first(&alone, draw, budget));
        } else {
            // No request gains anything; it looks again in time to see a token that was renewed: when its step would come, or
            // at half of the rest.
            prop_assert_eq!(step, Step::Look);
            let (rest, wait) = (secs(ttl * share), holding.looked_at.until(when));
            let in_time = wait <= (rest / 2).max(FIRST_BACKOFF) + MOMENT || when < holding.usable_until();
            prop_assert!(in_time || rest.is_zero(), "{wait:?} of {rest:?}");
        }
    }

    #[test]
    fn a_draw_only_makes_an_attempt_earlier(holding in any_holding(), draw in 0.0..1.0) {
        let plain = machine(&holding, BUDGET, 0.0).next_request();
        let jittered = machine(&holding, BUDGET, draw).next_request();
        prop_assert_eq!(plain.is_some(), jittered.is_some());
        if let (Some((plain, step)), Some((jittered, _))) = (plain, jittered) {
            // A look at the token is no attempt: it comes with the step if that comes in time, else sooner.
            prop_assert!(step == Step::Look || jittered <= plain);
        }
    }

    #[test]
    fn an_outage_of_any_length_costs_few_requests(ttl in 1.0..100_000.0, outage in 1.0..100_000.0, seed: u64) {
        // From the first failed renewal until the server is back, with a new draw for each attempt.
        let (mut drawn, mut requests) = (seed, 0_u32);
        let start = 0.6 * ttl;
        let mut holding = with(lease(ttl), |holding| holding.trouble = failed(1, start, ErrorKind::Unreachable));
        let mut now = at(1000.0 + start);
        while now < at(1000.0 + start + outage) {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            #[expect(clippy::cast_precision_loss, reason = "any fraction will do")]
            let draw = (drawn >> 11) as f64 / (1_u64 << 53) as f64;
            let mut machine = machine(&holding, BUDGET, draw);
            machine.pace.last_request = now;
            now = machine.next_request().expect("something to try").0;
            requests += 1;
            holding.trouble = holding.trouble.map(|before| Trouble { count: before.count + 1, at: now, ..before });
        }
        // On average half a back-off apart; past the end every quarter of a TTL, at least every second.
        let slowest = (ttl / 4.0).clamp(1.0, 10.0);
        let bound = 40.0 + 4.0 * outage / slowest;
        prop_assert!(f64::from(requests) < bound, "{requests} requests in {outage} s, bound {bound}");
    }
}
