//! Letting the connections of one generation go.

use leasehold_core::{ErrorKind, EventKind, Rotate, in_place::Settings};

use crate::{
    pool::Outcome,
    stage::{Stage, millis, secs},
};

#[tokio::test(start_paused = true)]
async fn idle_connections_are_exchanged_one_at_a_time_and_paced() {
    let mut stage = Stage::of(8);
    stage.adopted("second").await;
    assert_eq!(stage.retire().await, 0);
    assert_eq!(stage.pool.idle(), [Some(2); 8]);
    assert_eq!((stage.pool.server().sessions(), stage.pool.server().most()), (8, 9));
    let opened = stage.pool.log(|log| log.opened.iter().map(|open| open.0).collect::<Vec<_>>());
    assert_eq!(opened.len(), 8);
    for pair in opened[1..].windows(2) {
        // A handshake takes five milliseconds, and ten lie between an exchange and the next handshake.
        assert!(pair[0].until(pair[1]) >= millis(15), "{pair:?}");
    }
    let remaining = |event: EventKind| match event {
        EventKind::Retiring { remaining } => Some(remaining),
        _ => None,
    };
    let reported: Vec<usize> =
        stage.reported(stage.first.generation()).into_iter().filter_map(remaining).collect();
    assert_eq!(reported, [7, 6, 5, 4, 3, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_borrowed_connection_is_exchanged_when_it_has_come_back() {
    let mut stage = Stage::of(3);
    let mut borrowed = stage.borrow_all(2);
    stage.adopted("second").await;
    let returning = async {
        stage.pass(secs(60)).await;
        assert_eq!(stage.in_force.count(stage.first.generation()), 2);
        assert!(borrowed.iter().all(crate::pool::Slot::is_alive));
        borrowed.pop();
        stage.pass(secs(1)).await;
        assert_eq!(stage.in_force.count(stage.first.generation()), 1);
        borrowed.pop();
        stage.now()
    };
    let (remaining, last) = tokio::join!(stage.retire(), returning);
    assert_eq!((remaining, stage.pool.idle()), (0, vec![Some(2); 3]));
    assert!(last.until(stage.now()) < secs(1), "it looks often enough");
    assert_eq!(stage.pool.log(|log| log.opened.len()), 3);
}

#[tokio::test(start_paused = true)]
async fn what_never_comes_back_is_counted_when_its_credentials_end() {
    let mut stage = Stage::with(3, secs(60), Settings::default());
    let borrowed = stage.borrow_all(1);
    let ends = stage.first.usable_until();
    stage.adopted("second").await;
    assert_eq!(stage.retire().await, 1);
    assert!(stage.now() >= ends && ends.until(stage.now()) < millis(100), "{:?}", ends.until(stage.now()));
    assert!(borrowed[0].is_alive(), "it is left");
    assert_eq!(stage.pool.log(|log| log.terminated.len()), 0, "nobody asked for it");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_terminated_once_and_only_if_so_desired() {
    let settings = Settings { terminate: true, ..Settings::default() };
    let mut stage = Stage::with(3, secs(60), settings);
    let _borrowed = stage.borrow_all(2);
    let ends = stage.first.usable_until();
    stage.adopted("second").await;
    assert_eq!(stage.retire().await, 2);
    let terminated = stage.pool.log(|log| log.terminated.clone());
    assert_eq!(terminated.len(), 1);
    assert_eq!(terminated[0].until(ends), secs(1), "while the old user can still do it");
    let reported = stage.reported(stage.first.generation());
    assert!(
        reported.iter().any(|kind| matches!(kind, EventKind::Terminated { connections: 2 })),
        "{reported:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_terminated_where_all_come_back_in_time() {
    let settings = Settings { terminate: true, ..Settings::default() };
    let mut stage = Stage::with(3, secs(60), settings);
    stage.adopted("second").await;
    assert_eq!(stage.retire().await, 0);
    assert_eq!(stage.pool.log(|log| log.terminated.len()), 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_exchanged_all_the_same() {
    let mut stage = Stage::with(4, secs(60), Settings::default());
    stage.adopted("second").await;
    stage.pass(secs(120)).await;
    assert_eq!(stage.retire().await, 0);
    assert_eq!(stage.pool.idle(), [Some(2); 4]);
}

/// Pools that ask nobody at a check-out would hand it out.
#[tokio::test(start_paused = true)]
async fn what_has_ended_and_cannot_be_exchanged_is_given_up() {
    let mut stage = Stage::with(4, secs(60), Settings::default());
    let borrowed = stage.borrow_all(1);
    stage.adopted("second").await;
    stage.pool.set(|script| script.outcome = Outcome::Fails(ErrorKind::DatabaseUnavailable));
    let before_the_end = async {
        stage.pass(secs(59)).await;
        assert_eq!(stage.pool.idle(), [Some(2), Some(1), Some(1)], "as long as they last");
    };
    let (remaining, ()) = tokio::join!(stage.retire(), before_the_end);
    assert_eq!((remaining, stage.pool.idle(), stage.pool.empty()), (1, vec![Some(2)], 2));
    assert!(borrowed[0].is_alive(), "it is left");
}

#[tokio::test(start_paused = true)]
async fn what_the_pool_does_not_need_is_given_up_instead() {
    let mut stage = Stage::of(4);
    stage.adopted("second").await;
    stage.pool.set(|script| script.is_surplus = true);
    assert_eq!(stage.retire().await, 0);
    assert_eq!((stage.pool.idle(), stage.pool.empty()), (vec![Some(2)], 3));
    assert_eq!(stage.pool.log(|log| log.opened.len()), 1, "the proof");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_is_tried_less_and_less_and_nothing_is_rejected() {
    let mut stage = Stage::of(4);
    stage.adopted("second").await;
    stage.pool.set(|script| script.outcome = Outcome::Fails(ErrorKind::DatabaseUnavailable));
    let away = async {
        stage.pass(secs(120)).await;
        let tried = stage.pool.log(|log| log.opened.len());
        assert!((10..30).contains(&tried), "{tried} attempts in two minutes");
        assert_eq!(stage.pool.idle(), [Some(2), Some(1), Some(1), Some(1)], "nothing is lost");
        stage.pool.set(|script| script.outcome = Outcome::Ok);
    };
    let (remaining, ()) = tokio::join!(stage.retire(), away);
    assert_eq!((remaining, stage.pool.idle()), (0, vec![Some(2); 4]));
    assert_eq!(stage.rejections(), []);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_of_those_in_force() {
    let mut stage = Stage::of(2);
    stage.adopted("second").await;
    stage.pool.set(|script| script.outcomes.extend([Outcome::Fails(ErrorKind::CredentialsRefused); 2]));
    assert_eq!(stage.retire().await, 0);
    assert_eq!(stage.rejections(), [(2, ErrorKind::CredentialsRefused); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_is_given_up() {
    let mut stage = Stage::of(2);
    stage.adopted("second").await;
    stage.pool.set(|script| script.outcomes.extend([Outcome::Hangs; 2]));
    let before = stage.now();
    assert_eq!(stage.retire().await, 0);
    let took = before.until(stage.now());
    assert!(took >= secs(10) && took < secs(15), "{took:?}");
    assert_eq!((stage.pool.idle(), stage.pool.server().sessions()), (vec![Some(2); 2], 2));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_only_has_another_password_keeps_its_sessions() {
    let mut stage = Stage::of(3);
    stage.adopted("first").await;
    let before = stage.now();
    assert_eq!(stage.rotation.retire(&stage.first).await.remaining, Some(0));
    assert_eq!(before, stage.now(), "at once");
    assert_eq!(stage.pool.idle(), [Some(1); 3]);
    assert_eq!(stage.pool.server().sessions(), 3, "the proof has gone");
}
