//! What the database refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bb8::RunError;
use common::{Admin, HOUR, SECOND, fill, load, nap, query, unique, user_of_next};
use leasehold_bb8::{
    Connection,
    postgres::{Postgres, PostgresConnection},
};
use leasehold_core::{Error, ErrorKind, EventKind};
use leasehold_testbed::conformance::Keeper;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_connection_tells_at_once_why_it_failed() {
    let admin = Admin::new().await;
    let user = admin.role("first", "p").await;
    let mut keeper = Keeper::with(&user, "wrong");
    for min_idle in [None, Some(4)] {
        let started = Instant::now();
        let postgres = admin.postgres(4).pool(move |pool| pool.max_size(4).min_idle(min_idle));
        let error = postgres.connect(keeper.current()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CredentialsRefused, "{error}");
        assert!(error.to_string().contains("28P01") && started.elapsed() < 2 * SECOND, "{error}");
        assert_eq!(keeper.channel.rejections.recv().await.generation, keeper.generation());
    }
    admin.run(&format!("ALTER ROLE \"{user}\" CONNECTION LIMIT 0")).await;
    let keeper = Keeper::with(&user, "p");
    let error = admin.postgres(4).connect(keeper.current()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseFull, "{error}");
    admin.run(&format!("ALTER ROLE \"{user}\" CONNECTION LIMIT -1")).await;
    let nowhere = Postgres::new(admin.config_of("nowhere")).connect(keeper.current()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Configuration, "{nowhere}");
    let mut nameless = tokio_postgres::Config::new();
    nameless.host("127.0.0.1");
    let nameless = Postgres::new(nameless).connect(keeper.current()).await.unwrap_err();
    assert_eq!(nameless.kind(), ErrorKind::Configuration, "{nameless}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_leave_the_pool_on_the_old_ones() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("good", "p").await, admin.role("bad", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = admin.pool(4, &keeper).await;
    fill(&pool, 4).await;
    let load = load(&pool, 100);
    let first = keeper.generation();
    let refused = keeper.publish(&new, "wrong", HOUR);
    let error = keeper
        .event(refused, |kind| match kind {
            EventKind::Failed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused);
    let rejection = keeper.channel.rejections.recv().await;
    assert_eq!((rejection.generation, rejection.cause), (refused, ErrorKind::CredentialsRefused));
    nap(1000).await;
    assert_eq!(keeper.connections(), [(first, 4)]);
    assert_eq!(user_of_next(&pool).await, old);
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(user_of_next(&pool).await, new);
    assert_eq!(load.stop().await.failed, 0);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_is_rotated_in_as_soon_as_one_connection_is_idle() {
    let admin = Admin::new().await;
    let database = unique("full");
    admin.run(&format!("CREATE DATABASE \"{database}\" CONNECTION LIMIT 4")).await;
    let users = [admin.role("full", "p").await, admin.role("full", "p").await];
    let mut keeper = Keeper::with(&users[0], "p");
    let postgres = Postgres::new(admin.config_of(&database)).pool(|pool| pool.max_size(4));
    let pool = postgres.connect(keeper.current()).await.unwrap();
    let mut borrowed = Vec::new();
    for _ in 0..4 {
        borrowed.push(pool.get().await.unwrap());
    }
    let first = keeper.generation();
    let second = keeper.publish(&users[1], "p", HOUR);
    let full = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = keeper.event(second, full).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::DatabaseFull, "{error}");
    assert!(error.to_string().contains("until one of the pool's connections is idle"), "{error}");
    assert!(keeper.channel.rejections.try_recv().is_none(), "nothing is wrong with the credentials");
    assert_eq!(keeper.connections(), [(first, 4)]);
    borrowed.pop();
    keeper.adopted(second).await.unwrap();
    for client in &borrowed {
        client.query_one("SELECT 1", &[]).await.unwrap();
    }
    drop(borrowed);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(keeper.connections(), [(second, 4)], "the pool is as large as it was");
    fill(&pool, 4).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_is_rotated_in_under_load() {
    let admin = Admin::new().await;
    let database = unique("busy");
    admin.run(&format!("CREATE DATABASE \"{database}\" CONNECTION LIMIT 4")).await;
    let users = [admin.role("busy", "p").await, admin.role("busy", "p").await];
    let mut keeper = Keeper::with(&users[0], "p");
    let postgres = Postgres::new(admin.config_of(&database)).pool(|pool| pool.max_size(4).min_idle(4));
    let pool = postgres.connect(keeper.current()).await.unwrap();
    let load = load(&pool, 100);
    nap(300).await;
    let first = keeper.generation();
    keeper.publish(&users[1], "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    let outcome = load.stop().await;
    println!("full: {outcome:?}");
    assert_eq!(outcome.failed, 0, "{:?}", outcome.failures);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_a_limit_of_the_pools_size_is_enough() {
    let admin = Admin::new().await;
    let users = [admin.role("limit", "p").await, admin.role("limit", "p").await];
    for user in &users {
        admin.run(&format!("ALTER ROLE \"{user}\" CONNECTION LIMIT 4")).await;
    }
    let mut keeper = Keeper::with(&users[0], "p");
    let pool = admin.pool(4, &keeper).await;
    fill(&pool, 4).await;
    let first = keeper.generation();
    let second = keeper.publish(&users[1], "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(keeper.connections(), [(second, 4)]);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_dropped_behind_our_back_is_noticed() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("dropped", "p").await, admin.role("dropped", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = admin.pool(4, &keeper).await;
    fill(&pool, 4).await;
    admin.run(&format!("DROP ROLE \"{old}\"")).await;
    let rejection = timeout(5 * SECOND, keeper.channel.rejections.recv()).await.expect("it was not noticed");
    assert_eq!(rejection.cause, ErrorKind::CredentialsRefused);
    let first = keeper.generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    query(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_while_credentials_are_refused_gets_a_connection_of_their_successor() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("gone", "p").await, admin.role("gone", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let settings = leasehold_bb8::Settings { ask_every: None, ..leasehold_bb8::Settings::default() };
    let pool = admin.postgres(4).settings(settings).connect(keeper.current()).await.unwrap();
    let _borrowed = pool.get().await.unwrap();
    admin.run(&format!("ALTER ROLE \"{old}\" NOLOGIN")).await;
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { user_of_next(&pool).await }
    });
    let rejection = timeout(5 * SECOND, keeper.channel.rejections.recv()).await.expect("it was not noticed");
    assert_eq!(rejection.generation, keeper.generation());
    nap(500).await;
    assert!(keeper.channel.rejections.try_recv().is_none(), "the database is not asked again and again");
    keeper.publish(&new, "p", HOUR);
    assert_eq!(timeout(5 * SECOND, waiting).await.unwrap().unwrap(), new);
}

/// What bb8 does by itself, which the README tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bb8_hides_why_a_connection_could_not_be_opened() {
    let admin = Admin::new().await;
    let user = admin.role("hidden", "p").await;
    for retry in [true, false] {
        admin.run(&format!("ALTER ROLE \"{user}\" CONNECTION LIMIT -1")).await;
        let keeper = Keeper::with(&user, "p");
        let sink = Sink::default();
        let postgres = admin.postgres(4).pool({
            let sink = sink.clone();
            move |pool| {
                pool.connection_timeout(SECOND).retry_connection(retry).error_sink(Box::new(sink)).max_size(4)
            }
        });
        let pool = postgres.connect(keeper.current()).await.unwrap();
        let _borrowed = pool.get().await.unwrap();
        admin.run(&format!("ALTER ROLE \"{user}\" CONNECTION LIMIT 1")).await;
        let started = Instant::now();
        assert!(matches!(pool.get().await, Err(RunError::TimedOut)));
        println!("retry {retry}: timed out after {:?}, {} errors", started.elapsed(), sink.count());
        assert!(started.elapsed() >= SECOND && sink.count() > 0);
    }
}

#[derive(Clone, Debug, Default)]
struct Sink(Arc<AtomicUsize>);

impl Sink {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl bb8::ErrorSink<Error> for Sink {
    fn sink(&self, _: Error) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<Error>> {
        Box::new(self.clone())
    }
}

#[derive(Debug)]
struct Customizer(Arc<AtomicUsize>);

impl bb8::CustomizeConnection<Connection<PostgresConnection>, Error> for Customizer {
    fn on_acquire<'a>(
        &'a self,
        connection: &'a mut Connection<PostgresConnection>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            self.0.fetch_add(1, Ordering::Relaxed);
            connection.batch_execute("SET application_name = 'customized'").await.unwrap();
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customizer_sees_the_connections_that_the_rotation_opens() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("custom", "p").await, admin.role("custom", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let seen = Arc::new(AtomicUsize::new(0));
    let customizer = Box::new(Customizer(Arc::clone(&seen)));
    let postgres = admin.postgres(4).pool(|pool| pool.max_size(4).connection_customizer(customizer));
    let pool = postgres.connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    assert_eq!(seen.load(Ordering::Relaxed), 4);
    let first = keeper.generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    let mut held = Vec::new();
    for _ in 0..4 {
        let connection = pool.get().await.unwrap();
        let name: String = connection.query_one("SHOW application_name", &[]).await.unwrap().get(0);
        assert_eq!(name, "customized");
        held.push(connection);
    }
    assert_eq!(seen.load(Ordering::Relaxed), 8);
    drop(held);
    pool.close().await;
}
