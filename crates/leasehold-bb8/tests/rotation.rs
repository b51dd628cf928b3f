//! Credentials change while the pool is in use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bb8::QueueStrategy;
use common::{Admin, HOUR, SECOND, fill, load, nap, pid_of, query, user_of, user_of_next};
use leasehold_testbed::conformance::Keeper;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_query_fails_and_the_server_sees_one_session_more() {
    for strategy in [QueueStrategy::Fifo, QueueStrategy::Lifo] {
        let admin = Admin::new().await;
        let mut users = Vec::new();
        for _ in 0..4 {
            users.push(admin.role("load", "p").await);
        }
        let mut keeper = Keeper::with(&users[0], "p");
        // Last in, first out: most are never used, and are surplus where there is an idle timeout.
        let configure = move |pool: leasehold_bb8::postgres::PoolBuilder| {
            pool.max_size(16).idle_timeout(None).queue_strategy(strategy)
        };
        let postgres = admin.postgres(16).pool(configure);
        let pool = postgres.connect(keeper.current()).await.unwrap();
        fill(&pool, 16).await;
        let quiet = load(&pool, 400);
        nap(2000).await;
        println!("{strategy:?} without rotation: {:?}", quiet.stop().await);
        let watch = admin.watch(&users);
        let load = load(&pool, 400);
        nap(300).await;
        for pair in users.windows(2) {
            let [old, new] = pair else { unreachable!() };
            let (before, started) = (keeper.generation(), Instant::now());
            let generation = keeper.publish(new, "p", HOUR);
            keeper.adopted(generation).await.unwrap();
            let adopted = started.elapsed();
            assert_eq!(keeper.retired(before).await.unwrap(), Some(0));
            println!("adopted after {adopted:?}, retired after {:?}", started.elapsed());
            admin.wait_for_sessions(old, 0, SECOND / 2).await;
            assert_eq!(user_of_next(&pool).await, *new);
            assert_eq!(keeper.connections(), [(generation, 16)], "the pool is as large as it was");
        }
        let (outcome, most) = (load.stop().await, watch.most());
        println!("{strategy:?} with three rotations, {most} sessions at most: {outcome:?}");
        assert_eq!((outcome.failed, most <= 17), (0, true), "{most} sessions, {:?}", outcome.failures);
        pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_pool_is_retired_too() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("full", "p").await, admin.role("full", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = admin.pool(4, &keeper).await;
    fill(&pool, 4).await;
    let stop = Arc::new(AtomicBool::new(false));
    let caller = |_| {
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut queries = 0;
            while !stop.load(Ordering::Relaxed) {
                let connection = pool.get().await.unwrap();
                connection
                    .query_one("SELECT count(*) FROM pg_namespace, pg_sleep(0.005)", &[])
                    .await
                    .unwrap();
                queries += 1;
            }
            queries
        })
    };
    let callers: Vec<_> = (0..16).map(caller).collect();
    let watch = admin.watch(&[old.clone(), new.clone()]);
    nap(300).await;
    let (first, started) = (keeper.generation(), Instant::now());
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    println!("saturated: retired after {:?}, {} sessions at most", started.elapsed(), watch.most());
    stop.store(true, Ordering::Relaxed);
    let mut queries = 0;
    for caller in callers {
        queries += caller.await.unwrap();
    }
    assert!(queries > 100, "{queries}");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_borrowed_across_the_switch_is_retired_when_it_comes_back() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("lent", "p").await, admin.role("lent", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = admin.pool(4, &keeper).await;
    let borrowed = pool.get().await.unwrap();
    fill(&pool, 3).await;
    let first = keeper.generation();
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    admin.wait_for_sessions(&old, 1, 5 * SECOND).await;
    nap(500).await;
    assert_eq!(user_of(&borrowed).await, old, "nobody takes it away");
    assert_eq!(borrowed.issued().generation(), first);
    assert_eq!(keeper.connections(), [(first, 1), (second, 3)]);
    drop(borrowed);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(keeper.connections(), [(second, 4)]);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_connection_is_exchanged_while_it_is_borrowed_and_others_wait_for_it() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("one", "p").await, admin.role("one", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = admin.pool(1, &keeper).await;
    let borrowed = pool.get().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { user_of_next(&pool).await }
    });
    let first = keeper.generation();
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    // A spare one waits for it.
    admin.wait_for_sessions(&new, 1, 5 * SECOND).await;
    drop(borrowed);
    assert_eq!(waiting.await.unwrap(), new, "who waits gets a new one without a handshake");
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(keeper.connections(), [(second, 1)]);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_acquire_loses_nothing() {
    let admin = Admin::new().await;
    let users = [admin.role("cancel", "p").await, admin.role("cancel", "p").await];
    let mut keeper = Keeper::with(&users[0], "p");
    let pool = admin.pool(4, &keeper).await;
    fill(&pool, 4).await;
    let load = load(&pool, 200);
    let stop = Arc::new(AtomicBool::new(false));
    let cancelling = tokio::spawn({
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        async move {
            let mut cancelled = 0;
            while !stop.load(Ordering::Relaxed) {
                let borrowing = tokio::time::timeout(Duration::from_micros(300), pool.get());
                cancelled += usize::from(borrowing.await.is_err());
                nap(1).await;
            }
            cancelled
        }
    });
    nap(200).await;
    let first = keeper.generation();
    let second = keeper.publish(&users[1], "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    nap(200).await;
    stop.store(true, Ordering::Relaxed);
    assert!(cancelling.await.unwrap() > 0, "none was cancelled");
    let outcome = load.stop().await;
    assert_eq!(outcome.failed, 0, "{:?}", outcome.failures);
    fill(&pool, 4).await;
    assert_eq!(keeper.connections(), [(second, 4)]);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_of_the_same_user_is_adopted_and_nothing_retires() {
    let admin = Admin::new().await;
    let user = admin.role("static", "one").await;
    let mut keeper = Keeper::with(&user, "one");
    let pool = admin.pool(4, &keeper).await;
    let before = pid_of(&pool.get().await.unwrap()).await;
    admin.run(&format!("ALTER ROLE \"{user}\" PASSWORD 'two'")).await;
    let first = keeper.generation();
    let second = keeper.publish(&user, "two", HOUR);
    keeper.adopted(second).await.unwrap();
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(pid_of(&pool.get().await.unwrap()).await, before);
    fill(&pool, 4).await; // three more, with the new password
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_successor_connections_are_handed_out_past_their_end() {
    let admin = Admin::new().await;
    let user = admin.role("alone", "p").await;
    let mut keeper = Keeper::new();
    keeper.publish(&user, "p", 2 * SECOND);
    let pool = admin.pool(4, &keeper).await;
    fill(&pool, 4).await;
    let load = load(&pool, 100);
    nap(3000).await;
    assert!(!keeper.channel.current.health().is_usable());
    assert_eq!(load.stop().await.failed, 0);
    assert_eq!(keeper.connections(), [(keeper.generation(), 4)]);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_character_may_be_in_a_password_and_none_is_told() {
    let admin = Admin::new().await;
    for password in ["@:/%#?'\" \\", "päß%20wörd", "${HOME}$$"] {
        let user = admin.role("odd@:/%", password).await;
        let keeper = Keeper::with(&user, password);
        let pool = admin.pool(2, &keeper).await;
        let connection = pool.get().await.unwrap();
        assert_eq!(user_of(&connection).await, user);
        let manager = leasehold_bb8::Manager::new(
            leasehold_bb8::postgres::Connector::new(admin.config(), tokio_postgres::NoTls),
            keeper.current(),
        );
        let told = format!(
            "{pool:?} {:?} {connection:?} {:?} {manager:?} {:?}",
            *pool,
            connection.deref_twice(),
            admin.postgres(1)
        );
        assert!(!told.contains(password) && !told.contains("lease:"), "{told}");
        drop(connection);
        pool.close().await;
    }
}

trait DerefTwice {
    fn deref_twice(&self) -> &leasehold_bb8::postgres::PostgresConnection;
}

impl DerefTwice for leasehold_bb8::Connection<leasehold_bb8::postgres::PostgresConnection> {
    fn deref_twice(&self) -> &leasehold_bb8::postgres::PostgresConnection {
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_not_kept_alive_by_rotation() {
    let admin = Admin::new().await;
    let mut keeper = Keeper::with(&admin.role("idle", "p").await, "p");
    let configure =
        |pool: leasehold_bb8::postgres::PoolBuilder| pool.max_size(8).min_idle(2).idle_timeout(60 * SECOND);
    let pool = admin.postgres(8).pool(configure).connect(keeper.current()).await.unwrap();
    fill(&pool, 8).await;
    for _ in 0..2 {
        nap(2000).await;
        let before = keeper.generation();
        keeper.publish(&admin.role("idle", "p").await, "p", HOUR);
        assert_eq!(keeper.retired(before).await.unwrap(), Some(0));
    }
    let open = keeper.connections();
    assert!(open.len() == 1 && open[0].1 <= 3, "{open:?}");
    assert!(pool.state().connections >= 2, "{:?}", pool.state());
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_does_not_keep_idle_connections_alive() {
    let admin = Admin::new().await;
    let keeper = Keeper::with(&admin.role("asked", "p").await, "p");
    let settings = leasehold_bb8::Settings {
        ask_every: Some(Duration::from_millis(50)),
        ..leasehold_bb8::Settings::default()
    };
    for strategy in [QueueStrategy::Fifo, QueueStrategy::Lifo] {
        let postgres = admin.postgres(4).settings(settings).pool(move |pool| {
            pool.max_size(4).idle_timeout(SECOND).reaper_rate(SECOND / 5).queue_strategy(strategy)
        });
        let pool = postgres.connect(keeper.current()).await.unwrap();
        fill(&pool, 4).await;
        nap(3000).await;
        assert_eq!(pool.state().connections, 0, "{strategy:?}");
        pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_that_follow_each_other_closely_are_all_retired() {
    let admin = Admin::new().await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(admin.role("quick", "p").await);
    }
    let mut keeper = Keeper::with(&users[0], "p");
    let pool = admin.pool(8, &keeper).await;
    fill(&pool, 8).await;
    let load = load(&pool, 200);
    for user in &users[1..] {
        keeper.publish(user, "p", HOUR);
        nap(60).await;
    }
    for user in &users[..4] {
        admin.wait_for_sessions(user, 0, 10 * SECOND).await;
    }
    let outcome = load.stop().await;
    assert_eq!(outcome.failed, 0, "{:?}", outcome.failures);
    query(&pool).await.unwrap();
    pool.close().await;
}
