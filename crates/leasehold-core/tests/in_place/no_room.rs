//! Servers without room for a session beside the pool's.

use leasehold_core::{ErrorKind, Rotate};

use crate::{
    pool::{Outcome, Room},
    stage::{Stage, kind, millis},
};

const ROOMS: [Room; 3] = [Room::Kept, Room::Filled, Room::Refilled];

fn full_stage(size: usize, room: Room) -> Stage {
    let stage = Stage::of(size);
    stage.pool.server().limit(size);
    stage.pool.set(|script| script.room = room);
    stage
}

#[tokio::test(start_paused = true)]
async fn room_is_made_in_one_place_which_has_a_connection_again() {
    for room in ROOMS {
        let mut stage = full_stage(3, room);
        stage.adopted("second").await;
        assert_eq!(stage.pool.idle(), [Some(2), Some(1), Some(1)], "{room:?}");
        assert_eq!((stage.in_force(), stage.pool.server().sessions()), (2, 3), "{room:?}");
        assert_eq!(stage.pool.log(|log| log.given_up), usize::from(room != Room::Kept), "{room:?}");
        assert_eq!(stage.retire().await, 0);
        assert_eq!(stage.pool.idle(), [Some(2); 3], "{room:?}");
        assert_eq!(stage.pool.server().most(), 3, "{room:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn adoption_waits_for_an_idle_connection_and_says_so() {
    let mut stage = full_stage(2, Room::Kept);
    let borrowed = stage.borrow_all(2);
    let next = stage.issue("second");
    let error = stage.rotation.adopt(&next).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseFull);
    assert!(error.message().contains("waits until one of the pool's connections is idle"), "{error}");
    assert!(borrowed.iter().all(crate::pool::Slot::is_alive), "nobody's connection was taken");
    drop(borrowed);
    assert_eq!((stage.in_force(), stage.pool.idle()), (1, vec![Some(1); 2]));
    stage.rotation.adopt(&next).await.unwrap();
    assert_eq!((stage.in_force(), stage.pool.idle()), (2, vec![Some(2), Some(1)]));
}

#[tokio::test(start_paused = true)]
async fn the_server_may_take_a_moment_to_notice() {
    let mut stage = full_stage(2, Room::Kept);
    let full = Outcome::Fails(ErrorKind::DatabaseFull);
    stage.pool.set(|script| script.outcomes.extend([full; 4]));
    let before = stage.now();
    stage.adopted("second").await;
    assert_eq!(stage.pool.idle(), [Some(2), Some(1)]);
    assert!(before.until(stage.now()) > millis(100), "it did not hurry");
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_room_was_made_leaves_the_place_filled_with_what_is_in_force() {
    for room in ROOMS {
        for failure in [
            Outcome::Fails(ErrorKind::CredentialsRefused),
            Outcome::Fails(ErrorKind::DatabaseUnavailable),
            Outcome::Hangs,
        ] {
            let mut stage = full_stage(3, room);
            stage.pool.set(|script| script.outcomes.extend([Outcome::Ok, failure]));
            let next = stage.issue("second");
            assert!(stage.rotation.adopt(&next).await.is_err(), "{room:?} {failure:?}");
            assert_eq!(stage.in_force(), 1);
            assert_eq!(stage.pool.idle(), [Some(1); 3], "{room:?} {failure:?}");
            assert_eq!((stage.pool.server().sessions(), stage.pool.server().most()), (3, 3));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_full_costs_a_place_until_the_pool_opens_one_itself() {
    let mut stage = full_stage(2, Room::Kept);
    let full = Outcome::Fails(ErrorKind::DatabaseFull);
    stage.pool.set(|script| script.outcome = full);
    let next = stage.issue("second");
    assert_eq!(kind(stage.rotation.adopt(&next).await), Some(ErrorKind::DatabaseFull));
    // Never a dead connection in its place.
    assert_eq!((stage.pool.idle(), stage.pool.empty()), (vec![Some(1)], 1));
    assert_eq!(stage.pool.log(|log| log.opened.len()), 7, "one, five in its own room, and the pool's");
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_retirement_leaves_the_place_filled_too() {
    for room in ROOMS {
        let mut stage = full_stage(3, room);
        stage.adopted("second").await;
        // The first finds no room whatever the script says.
        let refused = Outcome::Fails(ErrorKind::CredentialsRefused);
        stage.pool.set(|script| script.outcomes.extend([Outcome::Ok, refused]));
        assert_eq!(stage.retire().await, 0);
        assert_eq!(stage.pool.idle(), [Some(2); 3], "{room:?}");
        assert_eq!(stage.rejections(), [(2, ErrorKind::CredentialsRefused)]);
        assert_eq!(stage.pool.server().most(), 3, "{room:?}");
    }
}
