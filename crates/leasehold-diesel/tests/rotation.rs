//! Credentials change while the pool is in use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{HOUR, Load, SECOND, Server, blocking, nap, user_of, user_of_next};
use leasehold_core::{EventKind, Grant, Lease, clock::Clock, clock::SystemClock};
use leasehold_diesel::issued;
use leasehold_testbed::conformance::Keeper;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_query_fails_and_no_more_than_one_session_is_added() {
    let server = Server::shared().await;
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(server.role("load", "p").await);
    }
    let mut keeper = Keeper::with(&users[0], "p");
    let pool = server.postgres().pool(|pool| pool.max_size(8)).connect(keeper.current()).await.unwrap();
    let quiet = Load::start(&pool, 4, Duration::from_millis(5));
    nap(1500).await;
    blocking(move || quiet.stop().print("without rotation")).await;
    let load = Load::start(&pool, 4, Duration::from_millis(5));
    let (watching, watched) = (Arc::clone(&server), users.clone());
    let watcher = tokio::spawn(async move {
        let list = watched.iter().map(|user| format!("'{user}'")).collect::<Vec<_>>().join(",");
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename IN ({list})");
        let mut many = 0;
        loop {
            let rows = watching.postgres_server().query(&sql).await.unwrap();
            let sessions: usize = rows[0][0].as_ref().unwrap().parse().unwrap();
            // The server lists a session for a moment after its client has gone.
            many = if sessions > 9 { many + 1 } else { 0 };
            assert!(many < 10, "{sessions} sessions");
            nap(2).await;
        }
    });
    for pair in users.windows(2) {
        let [old, new] = pair else { unreachable!() };
        let before = keeper.channel.current.get().unwrap().generation();
        let started = Instant::now();
        let generation = keeper.publish(new, "p", HOUR);
        keeper.adopted(generation).await.unwrap();
        let adopted = started.elapsed();
        assert_eq!(keeper.retired(before).await.unwrap(), Some(0));
        println!("{old} -> {new}: adopted after {adopted:?}, retired after {:?}", started.elapsed());
        server.wait_for_sessions(old, 0).await;
        assert_eq!(user_of_next(&pool).await, *new);
        assert_eq!(pool.state().connections, 8);
    }
    assert!(!watcher.is_finished(), "too many sessions");
    watcher.abort();
    let calls = blocking(move || load.stop()).await;
    calls.print("with three rotations");
    assert_eq!(calls.failures, [""; 0]);
    let health = keeper.channel.current.health();
    assert_eq!(health.connections.iter().map(|(_, open)| open).sum::<usize>(), 8, "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_pool_is_retired_too() {
    let server = Server::shared().await;
    let (old, new) = (server.role("full", "p").await, server.role("full", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = server.postgres().pool(|pool| pool.max_size(4)).connect(keeper.current()).await.unwrap();
    let load = Load::start(&pool, 16, Duration::ZERO);
    nap(300).await;
    let started = Instant::now();
    let first = keeper.channel.current.get().unwrap().generation();
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    let adopted = started.elapsed();
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    println!("saturated: adopted after {adopted:?}, retired after {:?}", started.elapsed());
    let calls = blocking(move || load.stop()).await;
    calls.print("saturated");
    assert_eq!(calls.failures, [""; 0]);
    server.wait_for_sessions(&old, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_borrowed_across_the_switch_is_retired_when_it_comes_back() {
    let server = Server::shared().await;
    let (old, new) = (server.role("lent", "p").await, server.role("lent", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = server.postgres().pool(|pool| pool.max_size(4)).connect(keeper.current()).await.unwrap();
    let lender = pool.clone();
    let mut borrowed = blocking(move || lender.get().unwrap()).await;
    let first = keeper.channel.current.get().unwrap().generation();
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    server.wait_for_sessions(&old, 1).await;
    nap(500).await;
    let (mut borrowed, user) = blocking(move || {
        let user = user_of(&mut borrowed);
        (borrowed, user)
    })
    .await;
    assert_eq!(user, old, "nobody takes it away");
    assert_eq!(issued(&mut borrowed).unwrap().generation(), first);
    let health = keeper.channel.current.health();
    assert!(health.connections.contains(&(first, 1)), "{health:?}");
    drop(borrowed);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    server.wait_for_sessions(&old, 0).await;
    assert_eq!((server.sessions(&new).await, pool.state().connections), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_borrowed_when_its_credentials_end_is_closed_when_it_comes_back() {
    let server = Server::shared().await;
    let (old, new) = (server.role("late", "p").await, server.role("late", "p").await);
    let mut keeper = Keeper::new();
    let first = keeper.publish(&old, "p", 3 * SECOND);
    let pool = server.postgres().pool(|pool| pool.max_size(2)).connect(keeper.current()).await.unwrap();
    let lender = pool.clone();
    let borrowed = blocking(move || lender.get().unwrap()).await;
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(1), "at its end");
    assert_eq!(server.sessions(&old).await, 1);
    drop(borrowed);
    server.wait_for_sessions(&old, 0).await;
    server.wait_for_sessions(&new, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_borrowed_can_be_terminated() {
    let server = Server::shared().await;
    let (old, new) = (server.role("ended", "p").await, server.role("ended", "p").await);
    let mut keeper = Keeper::new();
    let first = keeper.publish(&old, "p", 3 * SECOND);
    let settings = leasehold_diesel::Settings { terminate: true, ..leasehold_diesel::Settings::default() };
    let builder = server.postgres().pool(|pool| pool.max_size(2)).settings(settings);
    let pool = builder.connect(keeper.current()).await.unwrap();
    let lender = pool.clone();
    let borrowed = blocking(move || lender.get().unwrap()).await;
    keeper.publish(&new, "p", HOUR);
    let terminated = |kind: &EventKind| match kind {
        EventKind::Terminated { connections } => Some(*connections),
        _ => None,
    };
    assert_eq!(keeper.event(first, terminated).await.unwrap(), 1);
    server.wait_for_sessions(&old, 0).await;
    drop(borrowed);
    assert_eq!(user_of_next(&pool).await, new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_of_the_same_user_is_adopted_and_nothing_retires() {
    let server = Server::shared().await;
    let user = server.role("static", "one").await;
    let mut keeper = Keeper::with(&user, "one");
    let _pool = server.postgres().pool(|pool| pool.max_size(2)).connect(keeper.current()).await.unwrap();
    let pids = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{user}' ORDER BY pid");
    let before = server.postgres_server().query(&pids).await.unwrap();
    server.run(&format!("ALTER ROLE \"{user}\" PASSWORD 'two'")).await;
    let first = keeper.channel.current.get().unwrap().generation();
    let second = keeper.publish(&user, "two", HOUR);
    keeper.adopted(second).await.unwrap();
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    nap(200).await;
    assert_eq!(server.postgres_server().query(&pids).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_role_with_no_room_for_a_proof_rotates_in_the_room_of_an_idle_connection() {
    let server = Server::shared().await;
    let user = server.role_with("limit", "one", "CONNECTION LIMIT 4").await;
    let mut keeper = Keeper::with(&user, "one");
    let pool = server.postgres().pool(|pool| pool.max_size(4)).connect(keeper.current()).await.unwrap();
    server.wait_for_sessions(&user, 4).await;
    let load = Load::start(&pool, 2, Duration::from_millis(5));
    server.run(&format!("ALTER ROLE \"{user}\" PASSWORD 'two'")).await;
    let started = Instant::now();
    let second = keeper.publish(&user, "two", HOUR);
    keeper.adopted(second).await.unwrap();
    println!("no room: adopted after {:?}", started.elapsed());
    let calls = blocking(move || load.stop()).await;
    assert_eq!(calls.failures, [""; 0]);
    server.wait_for_sessions(&user, 4).await;
    assert_eq!(pool.state().connections, 4, "its place was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_no_room_for_a_proof_rotates_all_the_same() {
    let server = Server::shared().await;
    let (old, new) = (server.role("room", "p").await, server.role("room", "p").await);
    server.run("DROP DATABASE IF EXISTS narrow").await;
    server.run("CREATE DATABASE narrow CONNECTION LIMIT 4").await;
    let url = server.database_url().replace("/app", "/narrow");
    let mut keeper = Keeper::with(&old, "p");
    let builder = leasehold_diesel::Postgres::new(&url).unwrap().pool(|pool| pool.max_size(4));
    let pool = builder.connect(keeper.current()).await.unwrap();
    server.wait_for_sessions(&old, 4).await;
    let load = Load::start(&pool, 2, Duration::from_millis(5));
    let started = Instant::now();
    let first = keeper.channel.current.get().unwrap().generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    println!("a full database: retired after {:?}", started.elapsed());
    server.wait_for_sessions(&old, 0).await;
    server.wait_for_sessions(&new, 4).await;
    let calls = blocking(move || load.stop()).await;
    assert_eq!(calls.failures, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_character_may_be_in_a_password() {
    let server = Server::shared().await;
    for password in ["@:/%#?'\" \\", "päß%20wörd+&=", "${HOME}$$"] {
        let user = server.role("odd@:/%", password).await;
        let keeper = Keeper::with(&user, password);
        let builder = server.postgres().pool(|pool| pool.max_size(1));
        let pool = builder.connect(keeper.current()).await.unwrap();
        assert_eq!(user_of_next(&pool).await, user);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_that_follow_each_other_closely_are_all_retired() {
    let server = Server::shared().await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(server.role("quick", "p").await);
    }
    let mut keeper = Keeper::with(&users[0], "p");
    let pool = server.postgres().pool(|pool| pool.max_size(6)).connect(keeper.current()).await.unwrap();
    let load = Load::start(&pool, 4, Duration::from_millis(5));
    for user in &users[1..] {
        keeper.publish(user, "p", HOUR);
        nap(60).await;
    }
    for user in &users[..4] {
        server.wait_for_sessions(user, 0).await;
    }
    let calls = blocking(move || load.stop()).await;
    assert_eq!(calls.failures, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_shrinks_goes_on_shrinking() {
    let server = Server::shared().await;
    let mut keeper = Keeper::with(&server.role("idle", "p").await, "p");
    let builder = server.postgres().pool(|pool| pool.max_size(8).min_idle(Some(1)));
    let pool = builder.connect(keeper.current()).await.unwrap();
    let filler = pool.clone();
    blocking(move || {
        let held: Vec<_> = (0..8).map(|_| filler.get().unwrap()).collect();
        drop(held);
    })
    .await;
    assert_eq!(pool.state().connections, 8);
    nap(500).await;
    let first = keeper.channel.current.get().unwrap().generation();
    keeper.publish(&server.role("idle", "p").await, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    nap(500).await;
    println!("after a rotation of an idle pool: {:?}", pool.state());
    assert!(pool.state().connections <= 3, "{:?}", pool.state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keepers_end_ends_the_rotation_and_the_last_handle_lets_go_of_the_credentials() {
    let server = Server::shared().await;
    let user = server.role("end", "p").await;
    let mut keeper = Keeper::with(&user, "p");
    let pool = server.postgres().pool(|pool| pool.max_size(2)).connect(keeper.current()).await.unwrap();
    keeper.channel.publisher.close();
    nap(300).await;
    assert!(keeper.channel.farewells.try_recv().is_none(), "the pool uses them");
    assert_eq!(user_of_next(&pool).await, user, "what is open goes on");
    drop(pool);
    let gone = timeout(5 * SECOND, keeper.channel.farewells.recv()).await;
    assert_eq!(gone.expect("the farewell did not come").secret().username(), user);
    server.wait_for_sessions(&user, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_built_in_a_function_goes_on_rotating() {
    let server = Server::shared().await;
    let (old, new) = (server.role("built", "p").await, server.role("built", "p").await);
    let keeper = Keeper::with(&old, "p");
    let pool = server.postgres().pool(|pool| pool.max_size(2)).connect(keeper.current()).await.unwrap();
    let Keeper { mut channel, .. } = keeper;
    drop(channel.current);
    let unread = timeout(Duration::from_millis(300), channel.publisher.unread());
    assert!(unread.await.is_err(), "the pool reads it");
    let grant =
        Grant::new(leasehold_core::Credentials::new(&new, "p".to_owned()), Lease::new("lease", HOUR, true));
    channel.publisher.publish(grant, SystemClock.now());
    server.wait_for_sessions(&old, 0).await;
    assert_eq!(user_of_next(&pool).await, new);
}
