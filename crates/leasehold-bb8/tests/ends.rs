//! When the rotation ends, and what is left then.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::time::Duration;

use bb8::RunError;
use common::{Admin, HOUR, SECOND, fill, nap, query, user_of, user_of_next};
use leasehold_bb8::{Settings, postgres::Pool};
use leasehold_core::{
    EventKind,
    clock::{Clock, SystemClock},
};
use leasehold_testbed::conformance::Keeper;
use tokio::time::timeout;

/// Waits until nobody can read the keeper's secret any more, and nobody uses it.
async fn wait_until_unread(keeper: Keeper) {
    let Keeper { channel, .. } = keeper;
    drop(channel.current);
    timeout(5 * SECOND, channel.publisher.unread()).await.expect("somebody goes on reading");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_handle_ends_the_rotation_and_closes_what_is_open() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("last", "p").await, admin.role("last", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = admin.pool(4, &keeper).await;
    fill(&pool, 4).await;
    let another = pool.clone();
    drop(pool);
    let (first, second) = (keeper.generation(), keeper.publish(&new, "p", HOUR));
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0), "a clone keeps it going");
    assert_eq!(keeper.connections(), [(second, 4)]);
    drop(another);
    admin.wait_for_sessions(&new, 0, 5 * SECOND).await;
    wait_until_unread(keeper).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_handle_may_go_at_any_moment_of_a_rotation() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("moment", "p").await, admin.role("moment", "p").await);
    for moment in [0, 2, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200] {
        let mut keeper = Keeper::with(&old, "p");
        let min_idle = (moment % 20 == 0).then_some(4);
        let postgres = admin.postgres(4).pool(move |pool| pool.max_size(4).min_idle(min_idle));
        let pool = postgres.connect(keeper.current()).await.unwrap();
        fill(&pool, 4).await;
        keeper.publish(&new, "p", HOUR);
        nap(moment).await;
        if moment % 40 == 0 {
            timeout(5 * SECOND, pool.close()).await.expect("it does not close");
        }
        drop(pool);
        wait_until_unread(keeper).await;
    }
    admin.wait_for_sessions(&old, 0, 5 * SECOND).await;
    admin.wait_for_sessions(&new, 0, 5 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_what_is_borrowed_and_lets_go_of_the_credentials_last() {
    let admin = Admin::new().await;
    let user = admin.role("closed", "p").await;
    let mut keeper = Keeper::with(&user, "p");
    let postgres = admin.postgres(4).pool(|pool| pool.max_size(4).connection_timeout(SECOND / 2));
    let pool = postgres.connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    // As on shut-down: the slot no longer holds the value either.
    keeper.channel.publisher.close();
    let borrowed = pool.get().await.unwrap();
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    nap(300).await;
    assert_eq!(user_of(&borrowed).await, user, "nobody takes it away");
    admin.wait_for_sessions(&user, 1, SECOND).await;
    assert!(keeper.channel.farewells.try_recv().is_none() && !closing.is_finished());
    assert!(matches!(pool.get().await, Err(RunError::TimedOut)), "a closed pool hands out nothing");
    drop(borrowed);
    timeout(5 * SECOND, closing).await.expect("it does not close").unwrap();
    let gone = timeout(5 * SECOND, keeper.channel.farewells.recv()).await;
    assert_eq!(gone.expect("the farewell did not come").secret().username(), user);
    assert_eq!(pool.state().connections, 0);
    admin.wait_for_sessions(&user, 0, SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genuine_pool_that_outlives_its_handles_hands_out_nothing() {
    let admin = Admin::new().await;
    let user = admin.role("genuine", "p").await;
    let keeper = Keeper::with(&user, "p");
    let postgres = admin.postgres(4).pool(|pool| pool.max_size(4).connection_timeout(SECOND / 2));
    let pool = postgres.connect(keeper.current()).await.unwrap();
    let genuine = bb8::Pool::clone(&pool);
    drop(genuine.get().await.unwrap());
    drop(pool);
    assert!(matches!(genuine.get().await, Err(RunError::TimedOut)));
    drop(genuine);
    wait_until_unread(keeper).await;
}

async fn lend_past_the_end(
    admin: &Admin,
    terminate: bool,
) -> (Keeper, Pool, Option<usize>, Result<(), String>) {
    let (old, new) = (admin.role("kept", "p").await, admin.role("kept", "p").await);
    let mut keeper = Keeper::new();
    let first = keeper.publish(&old, "p", 4 * SECOND);
    let settings = Settings { terminate, ..Settings::default() };
    let pool = admin.postgres(4).settings(settings).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let borrowed = pool.get().await.unwrap();
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    nap(1000).await;
    assert!(keeper.connections().contains(&(first, 1)), "{:?}", keeper.connections());
    if terminate {
        let terminated = |kind: &EventKind| match kind {
            EventKind::Terminated { connections } => Some(*connections),
            _ => None,
        };
        assert_eq!(keeper.event(first, terminated).await.unwrap(), 1);
    }
    let retired = keeper.retired(first).await.unwrap();
    let answer = borrowed.query_one("SELECT 1", &[]).await.map(drop).map_err(|error| format!("{error:?}"));
    drop(borrowed);
    admin.wait_for_sessions(&old, 0, SECOND).await;
    (keeper, pool, retired, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_comes_back_is_counted_and_left() {
    let admin = Admin::new().await;
    let (keeper, pool, retired, answer) = lend_past_the_end(&admin, false).await;
    assert_eq!((retired, answer), (Some(1), Ok(())));
    query(&pool).await.unwrap();
    assert!(
        keeper.connections().iter().all(|(of, _)| *of == keeper.generation()),
        "closed when it came back"
    );
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_comes_back_is_terminated_if_so_desired() {
    let admin = Admin::new().await;
    let (_keeper, pool, retired, answer) = lend_past_the_end(&admin, true).await;
    assert!(answer.is_err());
    assert_eq!(retired, Some(1), "it is still in its borrower's hands");
    query(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_not_handed_out_even_if_it_could_not_be_exchanged() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("ended", "p").await, admin.role("ended", "p").await);
    let mut keeper = Keeper::new();
    keeper.publish(&old, "p", 3 * SECOND);
    let ends = keeper.channel.current.get().unwrap().usable_until();
    // What the rotation looks at is closed when it has ended; here only the check-out is to see it.
    let settings = Settings { ask_every: None, ..Settings::default() };
    let pool = admin.postgres(4).settings(settings).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    // As if the database refused every exchange from now on.
    admin.run(&format!("ALTER ROLE \"{new}\" NOLOGIN")).await;
    let mut old_ones = 0;
    for _ in 0..150 {
        // Asked for before the hard phase begins, it may be handed out.
        let hard = SystemClock.now() + SECOND >= ends;
        if let Ok(Ok(connection)) = timeout(SECOND / 10, pool.get()).await {
            let is_old = connection.issued().generation() != second;
            assert!(!(hard && is_old), "handed out though it ends");
            old_ones += usize::from(is_old);
        }
        nap(20).await;
    }
    assert!(old_ones > 0, "all were exchanged");
    admin.run(&format!("ALTER ROLE \"{new}\" LOGIN")).await;
    assert_eq!(timeout(Duration::from_secs(10), user_of_next(&pool)).await.unwrap(), new);
    admin.wait_for_sessions(&old, 0, 5 * SECOND).await;
    pool.close().await;
}
