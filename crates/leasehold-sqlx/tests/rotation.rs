//! Credentials change while the pool is in use.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{HOUR, Load, SECOND, Server, fill, nap, proxy::Proxy, user_of, user_of_next};
use leasehold_core::{Credentials, Current};
use leasehold_sqlx::Postgres;
use leasehold_testbed::conformance::Keeper;
use sqlx::{PgPool, postgres::PgSslMode};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_query_fails_and_the_pool_never_shrinks_by_more_than_one() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(admin.role("load", "p").await);
    }
    let mut keeper = Keeper::with(&users[0], "p");
    let pool = Postgres::new(server.options()).max_connections(16).connect(keeper.current()).await.unwrap();
    fill(&pool, 16).await;
    let quiet = Load::start(&pool, 8, Duration::from_millis(5));
    nap(3000).await;
    quiet.stop().await.print("without rotation");
    let load = Load::start(&pool, 8, Duration::from_millis(5));
    let watched = users.clone();
    let watcher = tokio::spawn({
        let admin = server.admin().await;
        async move {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY($1)";
            let mut most = 0_i64;
            loop {
                most = most.max(sqlx::query_scalar(sql).bind(&watched).fetch_one(&admin.0).await.unwrap());
                // 16 of the pool, the canary, and the proof of its successor.
                assert!(most <= 18, "{most} sessions");
                nap(5).await;
            }
        }
    });
    nap(300).await;
    for pair in users.windows(2) {
        let [old, new] = pair else { unreachable!() };
        let before = keeper.channel.current.get().unwrap().generation();
        let started = Instant::now();
        let generation = keeper.publish(new, "p", HOUR);
        keeper.adopted(generation).await.unwrap();
        let adopted = started.elapsed();
        assert_eq!(keeper.retired(before).await.unwrap(), Some(0));
        println!("{old} -> {new}: adopted after {adopted:?}, retired after {:?}", started.elapsed());
        assert_eq!(admin.sessions(old).await, 0);
        assert_eq!(user_of_next(&pool).await, *new);
    }
    assert!(!watcher.is_finished(), "too many sessions");
    watcher.abort();
    let outcome = load.stop().await;
    outcome.print("with three rotations");
    assert_eq!(outcome.failures, [""; 0]);
    assert!(outcome.smallest >= 15, "{}", outcome.smallest);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_pool_is_retired_too() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("full", "p").await, admin.role("full", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let load = Load::start(&pool, 16, Duration::from_millis(1));
    nap(300).await;
    let started = Instant::now();
    let first = keeper.channel.current.get().unwrap().generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    println!("saturated: retired after {:?}", started.elapsed());
    let outcome = load.stop().await;
    outcome.print("saturated");
    assert_eq!(outcome.failures, [""; 0]);
    assert!(outcome.smallest >= 3);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_borrowed_across_the_switch_is_retired_when_it_comes_back() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("lent", "p").await, admin.role("lent", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
    let mut borrowed = pool.acquire().await.unwrap();
    fill(&pool, 3).await;
    let first = keeper.channel.current.get().unwrap().generation();
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    admin.wait_for_sessions(&old, 1, 5 * SECOND).await;
    nap(500).await;
    assert_eq!(user_of(&mut borrowed).await, old, "nobody takes it away");
    let health = keeper.channel.current.health();
    assert!(health.connections.contains(&(first, 1)), "{health:?}");
    drop(borrowed);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(keeper.channel.current.health().connections.len(), 1, "{:?}", keeper.channel.current.health());
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_of_the_same_user_is_adopted_and_nothing_retires() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let user = admin.role("static", "one").await;
    let mut keeper = Keeper::with(&user, "one");
    let pool = Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
    fill(&pool, 2).await;
    let pid = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE usename = $1 AND pid <> $2";
    let canary = |_| 0; // the canary is replaced, so only the pool's sessions are compared
    let before: Vec<i32> =
        sqlx::query_scalar(pid).bind(&user).bind(canary(())).fetch_one(&admin.0).await.unwrap();
    admin.run(&format!("ALTER ROLE \"{user}\" PASSWORD 'two'")).await;
    let first = keeper.channel.current.get().unwrap().generation();
    let second = keeper.publish(&user, "two", HOUR);
    keeper.adopted(second).await.unwrap();
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    nap(200).await;
    let after: Vec<i32> =
        sqlx::query_scalar(pid).bind(&user).bind(canary(())).fetch_one(&admin.0).await.unwrap();
    assert_eq!(before.iter().filter(|pid| after.contains(pid)).count(), 2, "{before:?} {after:?}");
    fill(&pool, 4).await; // two more, with the new password
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_successor_sessions_go_on_past_their_end() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let user = admin.role("alone", "p").await;
    let mut keeper = Keeper::new();
    keeper.publish(&user, "p", 2 * SECOND);
    let pool = Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let load = Load::start(&pool, 4, Duration::from_millis(5));
    nap(3000).await;
    assert!(!keeper.channel.current.health().is_usable());
    let outcome = load.stop().await;
    assert_eq!((outcome.failures.len(), outcome.smallest), (0, 4));
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_character_may_be_in_a_password() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    for password in ["@:/%#?'\" \\", "päß%20wörd", "${HOME}$$"] {
        let user = admin.role("odd@:/%", password).await;
        let keeper = Keeper::with(&user, password);
        let pool = Postgres::new(server.options()).connect(keeper.current()).await.unwrap();
        assert_eq!(user_of_next(&pool).await, user);
        pool.close().await;
    }
}

async fn build(server: &Server, current: Current<Credentials>) -> PgPool {
    Postgres::new(server.options()).connect(current).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_built_in_a_function_goes_on_rotating() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("built", "p").await, admin.role("built", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = build(server, keeper.current()).await;
    // What a keeper waits for: nobody can read its secret any more.
    let Keeper { channel, .. } = &mut keeper;
    let spare = std::mem::replace(&mut channel.current, Keeper::new().channel.current);
    drop(spare);
    let unread = tokio::time::timeout(Duration::from_millis(300), channel.publisher.unread());
    assert!(unread.await.is_err(), "the pool reads it");
    let grant = leasehold_core::Grant::new(
        Credentials::new(&new, "p".to_owned()),
        leasehold_core::Lease::new("lease", HOUR, true),
    );
    channel.publisher.publish(grant, leasehold_core::clock::Clock::now(&leasehold_core::clock::SystemClock));
    admin.wait_for_sessions(&old, 0, 5 * SECOND).await;
    assert_eq!(user_of_next(&pool).await, new);
    pool.close().await;
    tokio::time::timeout(5 * SECOND, channel.publisher.unread()).await.expect("a closed pool reads nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_that_follow_each_other_closely_are_all_retired() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let mut keeper = Keeper::new();
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(admin.role("quick", "p").await);
    }
    keeper.publish(&users[0], "p", HOUR);
    let pool = Postgres::new(server.options()).max_connections(8).connect(keeper.current()).await.unwrap();
    fill(&pool, 8).await;
    let load = Load::start(&pool, 4, Duration::from_millis(5));
    for user in &users[1..] {
        keeper.publish(user, "p", HOUR);
        nap(60).await;
    }
    for user in &users[..4] {
        admin.wait_for_sessions(user, 0, 10 * SECOND).await;
    }
    let outcome = load.stop().await;
    assert_eq!(outcome.failures, [""; 0]);
    assert!(outcome.smallest >= 7);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_not_kept_alive_by_rotation() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let mut keeper = Keeper::with(&admin.role("idle", "p").await, "p");
    let pool =
        Postgres::new(server.options()).max_connections(16).min_connections(2).idle_timeout(3 * SECOND);
    let pool = pool.connect(keeper.current()).await.unwrap();
    fill(&pool, 16).await;
    assert_eq!(pool.size(), 16);
    for _ in 0..3 {
        nap(2000).await;
        keeper.publish(&admin.role("idle", "p").await, "p", HOUR);
    }
    nap(1500).await;
    assert_eq!(pool.size(), 2);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_that_logs_in_by_itself_old_connections_go_by_their_age() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    // The password is the one that everybody has: the proxy changes only the name, and the server asks for it.
    admin.run("CREATE ROLE proxy LOGIN PASSWORD 'p'").await;
    let proxy = Proxy::start(server.port(), "proxy").await;
    let mut keeper = Keeper::new();
    let first = keeper.publish("a", "p", 5 * SECOND);
    let options = server.options_at(proxy.port).ssl_mode(PgSslMode::Disable);
    let pool = Postgres::new(options).max_connections(4).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let pids = async |pool: &PgPool| {
        let mut held = Vec::new();
        let mut pids = Vec::new();
        for _ in 0..4 {
            let mut connection = pool.acquire().await.unwrap();
            let pid: i32 =
                sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *connection).await.unwrap();
            pids.push(pid);
            held.push(connection);
        }
        pids
    };
    let before = pids(&pool).await;
    let load = Load::start(&pool, 2, Duration::from_millis(10));
    keeper.publish("b", "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), None);
    let outcome = load.stop().await;
    assert_eq!(outcome.failures, [""; 0]);
    let after = pids(&pool).await;
    assert!(before.iter().all(|pid| !after.contains(pid)), "{before:?} {after:?}");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_may_be_closed_at_any_moment_of_a_rotation() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("moment", "p").await, admin.role("moment", "p").await);
    // Adoption takes some 10 to 100 ms, depending on how the SCRAM code was compiled, and the sweep as long per connection.
    for moment in [0, 2, 5, 10, 20, 40, 60, 80, 100, 130, 160, 200, 250, 300, 400, 500] {
        let mut keeper = Keeper::with(&old, "p");
        let pool =
            Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
        fill(&pool, 4).await;
        keeper.publish(&new, "p", HOUR);
        nap(moment).await;
        tokio::time::timeout(5 * SECOND, pool.close()).await.expect("it does not close");
        let Keeper { channel, .. } = keeper;
        drop(channel.current);
        let unread = tokio::time::timeout(5 * SECOND, channel.publisher.unread());
        unread.await.unwrap_or_else(|_| panic!("closed after {moment} ms, the rotation goes on"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_pool_ends_everything_and_lets_go_of_the_credentials_last() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let user = admin.role("closed", "p").await;
    let mut keeper = Keeper::with(&user, "p");
    let pool = Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    // As on shut-down: the slot no longer holds the value either.
    keeper.channel.publisher.close();
    let borrowed = pool.acquire().await.unwrap();
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    nap(300).await;
    assert!(keeper.channel.farewells.try_recv().is_none(), "a connection is still borrowed");
    drop(borrowed);
    let gone = tokio::time::timeout(5 * SECOND, keeper.channel.farewells.recv()).await;
    assert_eq!(gone.expect("the farewell did not come").secret().username(), user);
    assert_eq!(pool.size(), 0);
    admin.wait_for_sessions(&user, 0, SECOND).await;
    closing.await.unwrap();
    let _still_held: Arc<PgPool> = Arc::new(pool);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_began_without_a_connection_hands_out_none_of_a_user_who_is_gone() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("lazy", "p").await, admin.role("lazy", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(3).connect_lazy(keeper.current()).unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(pool.acquire().await.unwrap());
    }
    admin.run(&format!("DROP ROLE \"{old}\"")).await;
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    nap(3000).await;
    drop(held);
    for _ in 0..6 {
        assert_eq!(user_of_next(&pool).await, new);
    }
    pool.close().await;
}
