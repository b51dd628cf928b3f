//! The database or the credentials fail.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::time::Duration;

use common::{HOUR, Load, SECOND, Server, connects, fill, nap, user_of, user_of_next};
use leasehold_core::{ErrorKind, EventKind};
use leasehold_sqlx::{Postgres, Stragglers};
use leasehold_testbed::conformance::Keeper;
use sqlx::PgConnection;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_leave_the_pool_as_it_was_and_are_rejected() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("kept", "p").await, admin.role("kept", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let load = Load::start(&pool, 4, Duration::from_millis(5));
    let second = keeper.publish(&new, "wrong-s3cret", HOUR);
    let rejection = timeout(5 * SECOND, keeper.channel.rejections.recv()).await.unwrap();
    assert_eq!((rejection.generation, rejection.cause), (second, ErrorKind::CredentialsRefused));
    let failed = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = keeper.event(second, failed).await.unwrap();
    assert!(error.to_string().contains("28P01") && !error.to_string().contains("s3cret"), "{error}");
    assert_eq!(user_of_next(&pool).await, old);
    let third = keeper.publish(&new, "p", HOUR);
    keeper.adopted(third).await.unwrap();
    admin.wait_for_sessions(&old, 0, 5 * SECOND).await;
    assert_eq!(load.stop().await.failures, [""; 0]);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_lacks_a_right_is_not_adopted_if_the_proof_needs_it() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let table = format!("of_{}", admin.role("table", "p").await.replace('-', "_"));
    let (old, new) = (admin.role("may", "p").await, admin.role("may-not", "p").await);
    admin.run(&format!("CREATE TABLE {table} (id int8); GRANT SELECT ON {table} TO \"{old}\"")).await;
    let statement: &'static str = format!("SELECT count(*) FROM {table}").leak();
    let prove = || Postgres::new(server.options()).max_connections(2).prove_with(statement);
    let mut keeper = Keeper::with(&old, "p");
    let pool = prove().connect(keeper.current()).await.unwrap();
    fill(&pool, 2).await;
    let second = keeper.publish(&new, "p", HOUR);
    let failed = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = keeper.event(second, failed).await.unwrap();
    assert!(error.to_string().contains("42501"), "{error}");
    assert_eq!(user_of_next(&pool).await, old);
    assert!(prove().connect(keeper.current()).await.is_err(), "nor is it the first");
    admin.run(&format!("GRANT SELECT ON {table} TO \"{new}\"")).await;
    keeper.adopted(second).await.unwrap();
    admin.wait_for_sessions(&old, 0, 5 * SECOND).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_is_a_typed_error_in_time_and_no_matter_to_a_lazy_pool() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let user = admin.role("lazy", "p").await;
    let mut keeper = Keeper::with(&user, "p");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [closed, silent.local_addr().unwrap().port()] {
        let before = Instant::now();
        let pool = Postgres::new(server.options_at(port)).acquire_timeout(SECOND);
        let error = pool.connect(keeper.current()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable, "{error}");
        assert!(before.elapsed() < 2 * SECOND, "{:?}", before.elapsed());
    }
    let unreachable = Postgres::new(server.options_at(closed)).connect_lazy(keeper.current()).unwrap();
    let lazy = Postgres::new(server.options()).max_connections(4).connect_lazy(keeper.current()).unwrap();
    assert_eq!(lazy.size(), 0);
    fill(&lazy, 4).await;
    let new = admin.role("lazy", "p").await;
    keeper.publish(&new, "p", HOUR);
    admin.wait_for_sessions(&user, 0, 5 * SECOND).await;
    assert_eq!(user_of_next(&lazy).await, new);
    unreachable.close().await;
    lazy.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_first_credentials_are_an_error_and_a_rejection() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let mut keeper = Keeper::with(&admin.role("first", "p").await, "wrong-s3cret");
    let error = Postgres::new(server.options()).connect(keeper.current()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused);
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    assert!(keeper.channel.rejections.try_recv().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_role_without_a_spare_connection_rotates_once_one_is_idle() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let user = admin.role("limit", "one").await;
    admin.run(&format!("ALTER ROLE \"{user}\" CONNECTION LIMIT 4")).await;
    let mut keeper = Keeper::with(&user, "one");
    let pool =
        Postgres::new(server.options()).max_connections(4).min_connections(4).acquire_timeout(3 * SECOND);
    let pool = pool.connect(keeper.current()).await.unwrap();
    // All four are the pool's: the canary has given way.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.acquire().await.unwrap());
    }
    admin.run(&format!("ALTER ROLE \"{user}\" PASSWORD 'two'")).await;
    let second = keeper.publish(&user, "two", HOUR);
    let failed = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = keeper.event(second, failed).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable, "{error}");
    assert!(keeper.channel.rejections.try_recv().is_none(), "nothing is wrong with the credentials");
    held.pop();
    keeper.adopted(second).await.unwrap();
    drop(held);
    nap(200).await;
    fill(&pool, 4).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_rotates_once_a_connection_is_idle() {
    // One is the administrator's and one is reserved for it, so four are left.
    let server = Server::start(&["max_connections = 6", "superuser_reserved_connections = 1"]).await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("packed", "p").await, admin.role("packed", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(4).acquire_timeout(3 * SECOND);
    let pool = pool.canary_interval(None).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    assert!(!connects(server.options(), &new, "p").await, "it is not full");
    let load = Load::start(&pool, 2, Duration::from_millis(5));
    let first = keeper.channel.current.get().unwrap().generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    let outcome = load.stop().await;
    assert_eq!(outcome.failures, [""; 0]);
    fill(&pool, 4).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_past_the_end_is_left_and_closed_when_it_comes_back() {
    let (server, pool, mut held, mut keeper, old) = held(Stragglers::Leave).await;
    let first = leasehold_core::Generation::new(1);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(1));
    assert_eq!(user_of(&mut held).await, old, "it is left alone");
    drop(held);
    server.admin().await.wait_for_sessions(&old, 0, SECOND).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_to_the_end_is_terminated_if_so_told() {
    let (server, pool, mut held, mut keeper, old) = held(Stragglers::Terminate).await;
    let before = Instant::now();
    let first = leasehold_core::Generation::new(1);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert!(before.elapsed() > SECOND, "not before it must: {:?}", before.elapsed());
    let connection: &mut PgConnection = &mut held;
    let error = sqlx::query("SELECT 1").execute(connection).await.unwrap_err();
    assert!(error.to_string().contains("terminating"), "{error}");
    drop(held);
    assert_eq!(server.admin().await.sessions(&old).await, 0);
    assert_ne!(user_of_next(&pool).await, old);
    pool.close().await;
}

type Held = sqlx::pool::PoolConnection<sqlx::Postgres>;

/// A pool one of whose connections is borrowed across the switch; the old credentials end after 4 s.
async fn held(policy: Stragglers) -> (&'static Server, sqlx::PgPool, Held, Keeper, String) {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("held", "p").await, admin.role("held", "p").await);
    let mut keeper = Keeper::new();
    keeper.publish(&old, "p", 4 * SECOND);
    let pool = Postgres::new(server.options()).max_connections(4).stragglers(policy);
    let pool = pool.connect(keeper.current()).await.unwrap();
    let held = pool.acquire().await.unwrap();
    fill(&pool, 3).await;
    keeper.publish(&new, "p", HOUR);
    admin.wait_for_sessions(&old, 1, 3 * SECOND).await;
    (server, pool, held, keeper, old)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_notices_that_the_user_was_dropped() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("dropped", "p").await, admin.role("dropped", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(4).canary_interval(Duration::from_millis(200));
    let pool = pool.connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    admin.run(&format!("DROP ROLE \"{old}\"")).await;
    let rejection = timeout(5 * SECOND, keeper.channel.rejections.recv()).await.unwrap();
    assert_eq!(rejection.cause, ErrorKind::CredentialsRefused);
    // Its sessions have no name any more, but they are counted all the same, and nobody gets one.
    let first = rejection.generation;
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    let nameless = "SELECT count(*) FROM pg_stat_activity WHERE usename IS NULL AND usesysid IS NOT NULL AND datname = current_database()";
    let left: i64 = sqlx::query_scalar(nameless).fetch_one(&admin.0).await.unwrap();
    assert_eq!(left, 0);
    for _ in 0..8 {
        assert_eq!(user_of_next(&pool).await, new);
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_comes_back_when_its_connection_breaks() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let user = admin.role("canary", "p").await;
    let mut keeper = Keeper::with(&user, "p");
    let pool = Postgres::new(server.options()).canary_interval(Duration::from_millis(200));
    let pool = pool.connect(keeper.current()).await.unwrap();
    let kill = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'");
    admin.run(&kill).await;
    admin.wait_for_sessions(&user, 1, 5 * SECOND).await;
    assert!(
        keeper.channel.rejections.try_recv().is_none(),
        "a broken connection says nothing about the user"
    );
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_new_handshakes_fail_the_sweep_stops_at_once_and_goes_on_when_they_succeed() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("broken", "p").await, admin.role("broken", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(8).connect(keeper.current()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(pool.acquire().await.unwrap());
    }
    let first = keeper.channel.current.get().unwrap().generation();
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    // Adopted, and no longer able to log in: what a revocation too early looks like.
    admin.run(&format!("ALTER ROLE \"{new}\" NOLOGIN")).await;
    drop(held);
    nap(3000).await;
    assert!(pool.size() >= 6, "{} of 8 are left", pool.size());
    assert_eq!(user_of_next(&pool).await, old, "and they work");
    let rejection = keeper.channel.rejections.try_recv().expect("the keeper is told");
    assert_eq!(rejection.generation, second);
    admin.run(&format!("ALTER ROLE \"{new}\" LOGIN")).await;
    assert!(connects(server.options(), &new, "p").await);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    pool.close().await;
}
