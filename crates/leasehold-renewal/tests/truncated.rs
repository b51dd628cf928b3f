//! A grant that was cut short: max TTL is near, and its replacement may be hours away.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Server, secs};
use leasehold_core::{ErrorKind, EventKind, Token, clock::Clock};
use leasehold_renewal::Keeper;
use proptest::prelude::*;

/// A keeper whose grant has just been cut short, and which waits; most draws put the replacement hours away.
async fn waiting() -> (Server, Keeper<Token>) {
    loop {
        let server = Server::new(86_400, 90_000);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        let mut events = keeper.events();
        while !matches!(events.recv().await.unwrap().kind, EventKind::Renewed { truncated: true, .. }) {}
        server.wait(secs(60)).await;
        if server.count("issue") == 1 {
            return (server, keeper);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reject_is_heard_while_it_waits() {
    for cause in [ErrorKind::CredentialsRefused, ErrorKind::DeadToken] {
        for _ in 0..20 {
            let (server, keeper) = waiting().await;
            server.set(|state| state.leases.clear()); // an operator revokes it
            let (revoked, current) = (server.clock.now(), keeper.current());
            let generation = current.get().unwrap().generation();
            while current.get().unwrap().generation() == generation {
                current.reject(generation, cause);
                server.wait(secs(2)).await;
            }
            let late = revoked.until(server.clock.now());
            assert!(late <= secs(4), "{cause}: a successor after {late:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_time_is_heard_while_it_waits() {
    for asleep in [false, true] {
        for _ in 0..20 {
            let (server, keeper) = waiting().await;
            server.set(|state| state.leases.clear());
            match asleep {
                true => server.clock.suspend(secs(100)),
                false => server.clock.step_wall_clock(),
            }
            let woke = server.clock.now();
            let mut current = keeper.current();
            current.changed().await.unwrap();
            let late = woke.until(server.clock.now());
            assert!(late <= secs(2), "a successor after {late:?}; asleep: {asleep}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_false_alarm_while_it_waits_replaces_nothing() {
    let (server, keeper) = waiting().await;
    keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::CredentialsRefused);
    server.wait(secs(2)).await;
    assert_eq!((server.count("renew"), server.count("issue")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn it_is_replaced_with_time_to_drain_whatever_is_drawn() {
    for _ in 0..50 {
        let server = Server::new(300, 400);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        let first = keeper.current().get().unwrap();
        keeper.current().changed().await.unwrap();
        let left = server.clock.now().until(first.usable_until());
        assert!(left >= secs(75), "{left:?} to drain");
    }
}

/// The renewals of the first generation, as (granted, whether that was told apart), and what was left at its end.
async fn life(ttl: u64, max: u64, token: Option<u64>) -> (Vec<(Duration, bool)>, Duration) {
    let mut leases = Server::new(ttl, max);
    let mut keeper_of_token = None;
    if let Some(of_token) = token {
        // Renewed for ever: what cuts a grant short is max TTL.
        let tokens = Server::new(of_token, 1_000_000_000);
        let keeper = tokens.builder().start(tokens.clone()).await.unwrap();
        leases = leases.under(keeper.current(), &tokens.clock);
        keeper_of_token = Some(keeper);
    }
    let keeper = leases.builder().start(leases.clone()).await.unwrap();
    let (mut current, mut events) = (keeper.current(), keeper.events());
    let first = current.get().unwrap();
    let mut renewals = Vec::new();
    let mut note = |event: leasehold_core::Event| match event.kind {
        EventKind::Renewed { ttl, truncated } if event.generation == first.generation() => {
            renewals.push((ttl, truncated));
        }
        _ => {}
    };
    loop {
        tokio::select! {
            biased;
            event = events.recv() => note(event.unwrap()),
            next = current.changed() => break drop(next.unwrap()),
        }
    }
    drop(keeper_of_token);
    (renewals, leases.clock.now().until(first.own_end()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_shrinking_grant_is_recognised_at_the_first_renewal(
        ttl in 10_u64..5000, share in 1.0..4.0, token in prop::option::of(10_u64..20_000),
    ) {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let max = (ttl as f64 * share) as u64;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (renewals, left) = runtime.block_on(life(ttl, max, token));
        let (last, before) = renewals.split_last().expect("one renewal");
        prop_assert!(last.1 && last.0 < secs(ttl), "{renewals:?}");
        prop_assert!(before.iter().all(|(granted, truncated)| !truncated && *granted == secs(ttl)), "{renewals:?}");
        let due = secs(60).min(secs(ttl).mul_f64(0.4));
        prop_assert!(left + secs(1) >= due, "{left:?} to drain, {due:?} due");
    }
}
