//! What is particular to MariaDB: its sessions outlive their user and keep its rights, and only their own user sees them.

#![cfg(feature = "mysql")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

use std::time::Duration;

use leasehold_core::{
    ErrorKind, EventKind, Generation,
    clock::{Clock, SystemClock, sleep_until},
};
use leasehold_sqlx::{MySql, Stragglers};
use leasehold_testbed::{Config, MariaDb, Testbed, conformance::Keeper};
use sqlx::{MySqlConnection, MySqlPool, mysql::MySqlConnectOptions, pool::PoolConnection};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retirement_ends_what_dropping_the_user_does_not() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let (old, new) = (user(mariadb, "old").await, user(mariadb, "new").await);
    let mut keeper = Keeper::with(&old, PASSWORD);
    let pool = builder(mariadb).max_connections(4).connect(keeper.current()).await.unwrap();
    let mut borrowed = fill(&pool, 4).await.pop().unwrap();
    let (first, second) = (Generation::new(1), keeper.publish(&new, PASSWORD, HOUR));
    keeper.adopted(second).await.unwrap();
    wait_for_sessions(mariadb, &old, 1 + COUNTER).await;
    mariadb.execute(&format!("DROP USER '{old}'@'%'")).await.unwrap();
    // Revoked as it is, it still reads. It is counted by a session of its own, which nobody could open any more.
    assert_eq!(rows(&mut borrowed).await.unwrap(), "100");
    nap(2500).await;
    let health = keeper.channel.current.health();
    assert!(health.connections.contains(&(first, 1)), "{health:?}");
    drop(borrowed);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    wait_for_sessions(mariadb, &old, 0).await;
    for mut connection in fill(&pool, 4).await {
        assert_eq!(who(&mut connection).await, new);
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_to_the_end_is_killed_if_so_told() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let (old, new) = (user(mariadb, "old").await, user(mariadb, "new").await);
    let mut keeper = Keeper::new();
    let first = keeper.publish(&old, PASSWORD, Duration::from_secs(8));
    let pool = builder(mariadb).max_connections(4).stragglers(Stragglers::Terminate);
    let pool = pool.connect(keeper.current()).await.unwrap();
    let mut held = fill(&pool, 4).await.split_off(2);
    keeper.publish(&new, PASSWORD, HOUR);
    wait_for_sessions(mariadb, &old, 2 + COUNTER).await;
    let terminated = |kind: &EventKind| match kind {
        EventKind::Terminated { connections } => Some(*connections),
        _ => None,
    };
    assert_eq!(keeper.event(first, terminated).await.unwrap(), 2);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    for connection in &mut held {
        assert!(rows(connection).await.is_err(), "it was to be ended");
    }
    drop(held);
    wait_for_sessions(mariadb, &old, 0).await;
    assert_eq!(who(&mut pool.acquire().await.unwrap()).await, new);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_account_is_refused_and_changes_nothing() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let (old, new) = (user(mariadb, "old").await, user(mariadb, "new").await);
    let mut keeper = Keeper::with(&old, PASSWORD);
    let pool = builder(mariadb).max_connections(2).connect(keeper.current()).await.unwrap();
    drop(fill(&pool, 2).await);
    mariadb.execute(&format!("ALTER USER '{new}'@'%' ACCOUNT LOCK")).await.unwrap();
    let second = keeper.publish(&new, PASSWORD, HOUR);
    let failed = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = keeper.event(second, failed).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused, "{error}");
    assert!(error.to_string().contains("4151") && !error.to_string().contains(PASSWORD), "{error}");
    assert_eq!(who(&mut pool.acquire().await.unwrap()).await, old);
    mariadb.execute(&format!("ALTER USER '{new}'@'%' ACCOUNT UNLOCK")).await.unwrap();
    assert_eq!(keeper.retired(Generation::new(1)).await.unwrap(), Some(0));
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pools_of_one_user_do_not_wait_for_what_counts_in_the_other() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let (old, new) = (user(mariadb, "old").await, user(mariadb, "new").await);
    let mut keeper = Keeper::with(&old, PASSWORD);
    let mut pools = Vec::new();
    for _ in 0..2 {
        let pool = builder(mariadb).max_connections(2).connect(keeper.current()).await.unwrap();
        drop(fill(&pool, 2).await);
        pools.push(pool);
    }
    keeper.publish(&new, PASSWORD, HOUR);
    for _ in 0..2 {
        assert_eq!(keeper.retired(Generation::new(1)).await.unwrap(), Some(0));
    }
    wait_for_sessions(mariadb, &old, 0).await;
    for pool in pools {
        pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_that_follow_each_other_closely_are_all_counted_and_retired() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let mut keeper = Keeper::with(&user(mariadb, "0").await, PASSWORD);
    let pool = builder(mariadb).max_connections(8).connect(keeper.current()).await.unwrap();
    // Each generation has one that is borrowed for a while.
    let mut held = fill(&pool, 1).await;
    for number in 1..4 {
        let next = keeper.publish(&user(mariadb, &number.to_string()).await, PASSWORD, HOUR);
        keeper.adopted(next).await.unwrap();
        held.extend(fill(&pool, 1 + number).await.pop());
    }
    // They are retired one after the other, each counted by its own user.
    for old in 1..4 {
        wait_until("it is counted", || {
            let health = keeper.channel.current.health();
            async move { health.connections.contains(&(Generation::new(old), 1)) }
        })
        .await;
        assert!(mariadb.query(SESSIONS).await.unwrap().len() <= 10, "eight, and two beside them");
        drop(held.remove(0));
        assert_eq!(keeper.retired(Generation::new(old)).await.unwrap(), Some(0));
        wait_for_sessions(mariadb, &format!("v-{}", old - 1), 0).await;
    }
    drop(held);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_of_the_same_user_is_adopted_and_nothing_retires() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let name = user(mariadb, "static").await;
    let mut keeper = Keeper::with(&name, PASSWORD);
    let pool = builder(mariadb).max_connections(4).connect(keeper.current()).await.unwrap();
    let before = ids(&pool, 2).await;
    mariadb.execute(&format!("ALTER USER '{name}'@'%' IDENTIFIED BY 'two'")).await.unwrap();
    keeper.publish(&name, "two", HOUR);
    assert_eq!(keeper.retired(Generation::new(1)).await.unwrap(), Some(0));
    let after = ids(&pool, 4).await;
    assert!(before.iter().all(|id| after.contains(id)), "{before:?} {after:?}");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_character_may_be_in_a_name() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    // The second differs from the first by case, which MariaDB takes for another user.
    let names = [user(mariadb, "a@b:/%#? \\\"'`").await, user(mariadb, "A@b:/%#? \\\"'`").await];
    let mut keeper = Keeper::with(&names[0], PASSWORD);
    let pool = builder(mariadb).max_connections(2).connect(keeper.current()).await.unwrap();
    drop(fill(&pool, 2).await);
    keeper.publish(&names[1], PASSWORD, HOUR);
    assert_eq!(keeper.retired(Generation::new(1)).await.unwrap(), Some(0));
    assert_eq!(who(&mut pool.acquire().await.unwrap()).await, names[1]);
    pool.close().await;
}

#[test]
fn credentials_in_a_url_are_refused_and_nothing_secret_is_printed() {
    for url in [
        "mysql://me@db/orders",
        "mysql://me:s3cret@db/orders",
        "mariadb://:s3cret@db/orders",
        "mysql://db/orders?user=me",
        "mysql://db/orders?password=s3cret",
        "postgres://db/orders",
        "db",
    ] {
        let error = MySql::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    assert!(MySql::from_url("mysql://db").is_ok());
    let printed = format!("{:?}", MySql::new(MySqlConnectOptions::new().host("db").password("s3cret")));
    assert!(printed.contains("db:3306") && !printed.contains("s3cret"), "{printed}");
}

async fn start() -> Testbed {
    Testbed::start(Config { mariadb: true, ..Config::default() }).await.unwrap()
}

fn builder(mariadb: &MariaDb) -> MySql {
    MySql::from_url(&mariadb.url()).unwrap()
}

/// Makes a user who may read the whole database, as roles usually let it, and returns its name.
async fn user(mariadb: &MariaDb, name: &str) -> String {
    let name = format!("v-{name}");
    let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
    let sql = format!(
        "CREATE USER '{quoted}'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON app.* TO '{quoted}'@'%'"
    );
    mariadb.execute(&sql).await.unwrap();
    name
}

type Borrowed = PoolConnection<sqlx::MySql>;

async fn fill(pool: &MySqlPool, count: usize) -> Vec<Borrowed> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(pool.acquire().await.unwrap());
    }
    held
}

async fn who(connection: &mut MySqlConnection) -> String {
    let user: String = sqlx::query_scalar("SELECT USER()").fetch_one(connection).await.unwrap();
    user.rsplit_once('@').unwrap().0.to_owned()
}

async fn rows(connection: &mut MySqlConnection) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT CAST(count(*) AS CHAR) FROM measurements").fetch_one(connection).await
}

async fn ids(pool: &MySqlPool, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    for mut connection in fill(pool, count).await {
        ids.push(sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(&mut *connection).await.unwrap());
    }
    nap(50).await;
    ids
}

async fn wait_for_sessions(mariadb: &MariaDb, user: &str, wanted: usize) {
    wait_until(&format!("{user} has {wanted} sessions"), || async {
        mariadb.sessions_of(user).await.unwrap() == wanted
    })
    .await;
}

async fn wait_until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        nap(20).await;
    }
}

async fn nap(millis: u64) {
    sleep_until(&SystemClock, SystemClock.now() + Duration::from_millis(millis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_looks_at_the_servers_own_tables_is_counted_too() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let (old, new) = (user(mariadb, "old").await, user(mariadb, "new").await);
    let mut keeper = Keeper::with(&old, PASSWORD);
    let pool = builder(mariadb).max_connections(2).connect(keeper.current()).await.unwrap();
    let mut borrowed = fill(&pool, 2).await.pop().unwrap();
    sqlx::query("USE information_schema").execute(&mut *borrowed).await.unwrap();
    keeper.publish(&new, PASSWORD, HOUR);
    let first = Generation::new(1);
    let remaining = |kind: &EventKind| matches!(kind, EventKind::Retiring { remaining: 1 }).then_some(());
    keeper.event(first, remaining).await.unwrap();
    nap(2500).await;
    assert!(keeper.channel.farewells.try_recv().is_none(), "its lease would be revoked");
    drop(borrowed);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    pool.close().await;
}

const HOUR: Duration = Duration::from_secs(3600);
const PASSWORD: &str = "hunter2";
/// The session that counts.
const COUNTER: usize = 1;
const SESSIONS: &str = "SELECT id FROM information_schema.processlist WHERE user LIKE 'v-%'";
