//! Putting proved credentials in force.

use leasehold_core::{ErrorKind, Rotate};

use crate::{
    pool::Outcome,
    stage::{Stage, kind, secs},
};

#[tokio::test(start_paused = true)]
async fn what_cannot_be_proved_leaves_the_pool_as_it_was() {
    for (outcome, expected) in [
        (Outcome::Fails(ErrorKind::CredentialsRefused), ErrorKind::CredentialsRefused),
        (Outcome::Fails(ErrorKind::DatabaseUnavailable), ErrorKind::DatabaseUnavailable),
        (Outcome::Fails(ErrorKind::Unexpected), ErrorKind::Unexpected),
        (Outcome::Hangs, ErrorKind::DatabaseUnavailable),
    ] {
        let mut stage = Stage::of(3);
        stage.pool.set(|script| script.outcome = outcome);
        let next = stage.issue("second");
        let before = stage.now();
        assert_eq!(kind(stage.rotation.adopt(&next).await), Some(expected), "{outcome:?}");
        assert!(before.until(stage.now()) <= secs(5), "{outcome:?}: it is bounded");
        assert_eq!(stage.in_force(), 1);
        assert_eq!(stage.pool.idle(), [Some(1); 3]);
        assert_eq!((stage.pool.server().sessions(), stage.in_force.count(next.generation())), (3, 0));
        // It is the driver who tells the keeper.
        assert_eq!(stage.rejections(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn the_proof_takes_the_place_of_a_stale_connection() {
    let mut stage = Stage::of(3);
    stage.adopted("second").await;
    assert_eq!(stage.in_force(), 2);
    assert_eq!(stage.pool.idle(), [Some(2), Some(1), Some(1)]);
    assert_eq!((stage.pool.server().sessions(), stage.pool.server().most()), (3, 4));
    assert_eq!(stage.pool.log(|log| log.opened.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn the_proof_is_closed_if_nothing_stale_is_idle() {
    let mut stage = Stage::of(3);
    let borrowed = stage.borrow_all(3);
    stage.adopted("second").await;
    assert_eq!((stage.in_force(), stage.pool.server().sessions()), (2, 3));
    drop(borrowed);
    assert_eq!(stage.pool.idle(), [Some(1); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_was_closed_meanwhile_stays_closed() {
    let mut stage = Stage::of(1);
    let next = stage.issue("second");
    let closing = async {
        stage.pass(crate::stage::millis(2)).await;
        stage.in_force.close();
    };
    let (adopted, ()) = tokio::join!(stage.rotation.adopt(&next), closing);
    drop(adopted);
    assert_eq!(kind(stage.in_force.get()), Some(ErrorKind::Closed));
}
