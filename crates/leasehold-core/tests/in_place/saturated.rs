//! Pools whose connections are all borrowed, and whose callers wait for the next.

use std::time::Duration;

use leasehold_core::in_place::{Settings, Slots};

use crate::{
    pool::{Pool, Slot, WhenSaturated},
    stage::{Stage, millis, secs},
};

/// Gives a connection back and has the next one at once, for ever, so that nothing is ever idle.
async fn use_all(stage: &Stage, mut borrowed: Vec<Slot>, each: Duration) {
    loop {
        let oldest = borrowed.remove(0);
        assert!(oldest.is_alive());
        borrowed.push(hand_on(&stage.pool, oldest));
        stage.pass(each).await;
    }
}

/// What comes back is gone again before anybody can look, unless the rotation has it.
fn hand_on(pool: &Pool, slot: Slot) -> Slot {
    drop(slot);
    pool.borrow()
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_shows_what_comes_back_is_rotated_in_passing() {
    let mut stage = Stage::of(4);
    stage.pool.set(|script| script.when_saturated = WhenSaturated::ExchangeNext);
    let borrowed = stage.borrow_all(4);
    stage.adopted("second").await;
    tokio::select! {
        remaining = stage.retire() => assert_eq!(remaining, 0),
        () = use_all(&stage, borrowed, millis(7)) => {}
    }
    assert_eq!(stage.pool.idle(), [Some(2); 4]);
    assert_eq!((stage.pool.server().sessions(), stage.pool.server().most()), (4, 5));
}

#[tokio::test(start_paused = true)]
async fn in_a_pool_that_queues_the_rotation_is_one_caller_more() {
    let mut stage = Stage::of(3);
    stage.pool.set(|script| script.when_saturated = WhenSaturated::Queue);
    let mut borrowed = stage.borrow_all(3);
    stage.adopted("second").await;
    let callers = async {
        // Only what the rotation waits for comes back, and it has it at once.
        for _ in 0..3 {
            let before = stage.pool.log(|log| log.queued);
            while stage.pool.log(|log| log.queued) == before {
                stage.pass(millis(1)).await;
            }
            let opened = stage.pool.log(|log| log.opened.len());
            let back = stage.now();
            borrowed.pop();
            while stage.pool.idle().is_empty() {
                stage.pass(millis(1)).await;
            }
            assert!(back.until(stage.now()) <= millis(2), "whoever is behind waits for no handshake");
            assert_eq!(stage.pool.log(|log| log.opened.len()), opened, "it was open before");
            borrowed.insert(0, stage.pool.borrow());
        }
        borrowed
    };
    let (remaining, borrowed) = tokio::join!(stage.retire(), callers);
    assert_eq!(remaining, 0);
    drop(borrowed);
    assert_eq!(stage.pool.idle(), [Some(2); 3]);
    assert_eq!((stage.pool.server().sessions(), stage.pool.server().most()), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn the_spare_connection_is_closed_when_callers_no_longer_queue() {
    for when_saturated in [WhenSaturated::Queue, WhenSaturated::ExchangeNext] {
        let mut stage = Stage::of(3);
        stage.pool.set(|script| script.when_saturated = when_saturated);
        let mut borrowed = stage.borrow_all(3);
        stage.adopted("second").await;
        let calming_down = async {
            stage.pass(secs(5)).await;
            assert_eq!(stage.pool.server().sessions(), 4, "{when_saturated:?}: one is open beforehand");
            // Not saturated any more, with two that stay away for long.
            borrowed.pop();
            stage.pass(secs(5)).await;
            assert_eq!(stage.pool.server().sessions(), 3, "{when_saturated:?}: the spare is closed");
            assert_eq!(stage.pool.idle(), [Some(2)]);
            drop(borrowed);
        };
        let (remaining, ()) = tokio::join!(stage.retire(), calming_down);
        assert_eq!((remaining, stage.pool.idle()), (0, vec![Some(2); 3]));
        assert_eq!((stage.pool.server().sessions(), stage.pool.server().most()), (3, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn the_spare_connection_is_closed_when_nothing_is_left_to_retire() {
    let mut stage = Stage::of(2);
    stage.pool.set(|script| script.when_saturated = WhenSaturated::ExchangeNext);
    let borrowed = stage.borrow_all(2);
    stage.adopted("second").await;
    let closing = async {
        stage.pass(secs(5)).await;
        assert_eq!(stage.pool.server().sessions(), 3);
        // Its callers close them, as after an error.
        for slot in borrowed {
            stage.pool.give_up(slot).await;
        }
    };
    let (remaining, ()) = tokio::join!(stage.retire(), closing);
    assert_eq!((remaining, stage.pool.server().sessions()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_server_has_no_room_for_a_spare_and_waits_for_one_that_is_idle() {
    for when_saturated in [WhenSaturated::Queue, WhenSaturated::ExchangeNext] {
        let mut stage = Stage::of(2);
        stage.pool.set(|script| script.when_saturated = when_saturated);
        stage.adopted("second").await;
        stage.pool.server().limit(2);
        let mut borrowed = stage.borrow_all(2);
        let returning = async {
            stage.pass(secs(10)).await;
            assert_eq!(stage.pool.server().sessions(), 2);
            borrowed.clear();
        };
        let (remaining, ()) = tokio::join!(stage.retire(), returning);
        assert_eq!((remaining, stage.pool.idle()), (0, vec![Some(2); 2]), "{when_saturated:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_spare_connection_is_closed_before_sessions_are_terminated() {
    let settings = Settings { terminate: true, ..Settings::default() };
    let mut stage = Stage::with(2, secs(60), settings);
    stage.pool.set(|script| script.when_saturated = WhenSaturated::ExchangeNext);
    let borrowed = stage.borrow_all(2);
    stage.adopted("second").await;
    assert_eq!(stage.retire().await, 2);
    assert_eq!(stage.pool.log(|log| log.terminated.len()), 1);
    assert_eq!(stage.pool.server().most(), 3, "terminating takes a session of its own");
    drop(borrowed);
}
