//! Asking the database whether it still knows the user in force, and the end of the rotation.

use leasehold_core::{ErrorKind, in_place::Settings};

use crate::{
    pool::Outcome,
    stage::{Stage, kind, secs},
};

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_asked_every_so_often_and_a_refusal_is_told() {
    let Stage { clock, mut channel, pool, rotation, in_force, .. } = Stage::of(2);
    let running = tokio::spawn(rotation.run());
    let pass = async |time| {
        leasehold_core::clock::sleep_until(&*clock, leasehold_core::clock::Clock::now(&*clock) + time).await;
    };
    pass(secs(21)).await;
    assert_eq!(pool.log(|log| log.asked.len()), 10);
    assert!(channel.rejections.try_recv().is_none(), "all is well");
    pool.set(|script| script.answer = Outcome::Fails(ErrorKind::DatabaseUnavailable));
    pass(secs(20)).await;
    assert!(channel.rejections.try_recv().is_none(), "not a word about the credentials");
    pool.set(|script| script.answer = Outcome::Fails(ErrorKind::CredentialsRefused));
    pass(secs(2)).await;
    let rejection = channel.rejections.try_recv().unwrap();
    assert_eq!((rejection.generation.number(), rejection.cause), (1, ErrorKind::CredentialsRefused));
    assert_eq!(pool.idle(), [Some(1); 2], "the pool has it back");
    in_force.close();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_is_bounded_and_its_connection_given_up() {
    let Stage { clock, mut channel, pool, rotation, .. } = Stage::of(2);
    pool.set(|script| script.answer = Outcome::Hangs);
    let running = tokio::spawn(rotation.run());
    leasehold_core::clock::sleep_until(&*clock, leasehold_core::clock::Clock::now(&*clock) + secs(8)).await;
    assert_eq!(pool.log(|log| (log.asked.len(), log.given_up)), (1, 1));
    // The answer may still come, and would be taken for another's.
    assert_eq!((pool.idle(), pool.empty()), (vec![Some(1)], 1));
    assert!(channel.rejections.try_recv().is_none());
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_if_so_desired() {
    let settings = Settings { ask_every: None, ..Settings::default() };
    let Stage { clock, pool, rotation, in_force, .. } = Stage::with(2, secs(3600), settings);
    let running = tokio::spawn(rotation.run());
    leasehold_core::clock::sleep_until(&*clock, leasehold_core::clock::Clock::now(&*clock) + secs(600)).await;
    assert_eq!(pool.log(|log| log.asked.len()), 0);
    assert!(!running.is_finished());
    in_force.close();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_pool_and_lets_go_of_its_credentials() {
    let Stage { mut channel, pool, rotation, in_force, first, .. } = Stage::of(2);
    let running = tokio::spawn(rotation.run());
    tokio::task::yield_now().await;
    in_force.close();
    running.await.unwrap();
    assert_eq!(kind(in_force.get()), Some(ErrorKind::Closed));
    channel.publisher.close();
    drop((first, pool));
    assert_eq!(channel.farewells.try_recv().unwrap().generation().number(), 1);
}
