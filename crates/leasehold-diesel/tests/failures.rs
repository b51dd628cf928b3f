//! What goes wrong, and what is told of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{fmt, time::Duration};

use common::{HOUR, Lines, Load, SECOND, Server, blocking, nap, user_of, user_of_next};
use diesel::{
    connection::{Connection, InstrumentationEvent},
    pg::PgConnection,
    r2d2::{CustomizeConnection, Error, HandleError},
};
use leasehold_core::{ErrorKind, EventKind};
use leasehold_diesel::{Postgres, issued, set_instrumentation};
use leasehold_testbed::conformance::Keeper;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_new_credentials_leave_the_pool_on_the_old_ones() {
    let server = Server::shared().await;
    let (old, new) = (server.role("kept", "p").await, server.role("refused", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = server.postgres().pool(|pool| pool.max_size(4)).connect(keeper.current()).await.unwrap();
    let load = Load::start(&pool, 2, Duration::from_millis(5));
    let second = keeper.publish(&new, "hunter2", HOUR);
    assert_eq!(keeper.rejected().await.unwrap(), second);
    let failed = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = keeper.event(second, failed).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused, "{error}");
    assert!(error.to_string().contains(&new) && !error.to_string().contains("hunter2"), "{error}");
    assert_eq!((server.sessions(&old).await, user_of_next(&pool).await), (4, old));
    let third = server.role("better", "p").await;
    let generation = keeper.publish(&third, "p", HOUR);
    keeper.adopted(generation).await.unwrap();
    let calls = blocking(move || load.stop()).await;
    assert_eq!(calls.failures, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_not_built_with_credentials_that_are_refused() {
    let server = Server::shared().await;
    let user = server.role("wrong", "p").await;
    let mut keeper = Keeper::with(&user, "hunter2");
    let started = Instant::now();
    let error = server.postgres().connect(keeper.current()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused, "{error}");
    assert!(started.elapsed() < 2 * SECOND, "at once");
    keeper.rejected().await.unwrap();
    let nobody = Keeper::with("t-nobody", "p");
    let error = server.postgres().connect(nobody.current()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsRefused, "{error}");
    let nowhere = Postgres::new("postgres://127.0.0.1:1/app").unwrap();
    let error = nowhere.connect(keeper.current()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable, "{error}");
    let empty = Keeper::new();
    let error = server.postgres().connect(empty.current()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotYet, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_is_dropped_behind_our_back_is_noticed_and_replaced() {
    let server = Server::shared().await;
    let (old, new) = (server.role("dropped", "p").await, server.role("after", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let first = keeper.channel.current.get().unwrap().generation();
    let settings = leasehold_diesel::Settings {
        ask_every: Some(Duration::from_millis(200)),
        ..leasehold_diesel::Settings::default()
    };
    let builder = server.postgres().pool(|pool| pool.max_size(2)).settings(settings);
    let pool = builder.connect(keeper.current()).await.unwrap();
    nap(500).await;
    assert!(keeper.channel.rejections.try_recv().is_none(), "nothing is wrong yet");
    server.run(&format!("DROP ROLE \"{old}\"")).await;
    let dropped = Instant::now();
    assert_eq!(keeper.rejected().await.unwrap(), first);
    println!("noticed after {:?}", dropped.elapsed());
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(user_of_next(&pool).await, new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_refused_tells_the_keeper_and_goes_on_with_the_successor() {
    let server = Server::shared().await;
    let (old, new) = (server.role("locked", "p").await, server.role("next", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let first = keeper.channel.current.get().unwrap().generation();
    let settings = leasehold_diesel::Settings { ask_every: None, ..leasehold_diesel::Settings::default() };
    let builder = server.postgres().pool(|pool| pool.max_size(2).min_idle(Some(0))).settings(settings);
    let pool = builder.connect(keeper.current()).await.unwrap();
    server.run(&format!("ALTER ROLE \"{old}\" NOLOGIN")).await;
    let asking = pool.clone();
    let asked = tokio::task::spawn_blocking(move || user_of(&mut asking.get().unwrap()));
    assert_eq!(keeper.rejected().await.unwrap(), first);
    let rejected = Instant::now();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(asked.await.unwrap(), new);
    assert!(rejected.elapsed() < 2 * SECOND, "{:?}", rejected.elapsed());
}

/// Remembers what r2d2 would log.
#[derive(Clone, Debug, Default)]
struct Log(Lines);

impl<E: fmt::Display + fmt::Debug> HandleError<E> for Log {
    fn handle_error(&self, error: E) {
        self.0.push(format!("{error} {error:?}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_can_be_printed_tells_a_password() {
    let server = Server::shared().await;
    let password = "hunter2@:/%#?' \\";
    let user = server.role("secret", password).await;
    let mut keeper = Keeper::with(&user, password);
    let log = Log::default();
    let handler = log.clone();
    let builder = server.postgres().pool(move |pool| {
        pool.max_size(2).min_idle(Some(0)).error_handler(Box::new(handler)).connection_timeout(2 * SECOND)
    });
    let mut printed = format!("{builder:?}");
    let pool = builder.connect(keeper.current()).await.unwrap();
    printed += &format!("{pool:?} {:?}", pool.state());
    server.run(&format!("ALTER ROLE \"{user}\" NOLOGIN")).await;
    let error = pool.get().err().unwrap();
    printed += &format!("{error} {error:?}");
    keeper.rejected().await.unwrap();
    nap(5500).await;
    let logged = log.0.all();
    assert!(logged.iter().any(|line| line.contains("not permitted to log in")), "{logged:?}");
    printed += &logged.join("\n");
    let nul = Keeper::with(&user, "hunter2\0");
    let error = server.postgres().connect(nul.current()).await.unwrap_err();
    printed += &format!("{error} {error:?}");
    for secret in ["hunter2", "%40%3A"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains(&user), "the name is no secret");
}

/// Marks each session, and counts how many it was given and how many back.
#[derive(Clone, Debug, Default)]
struct Marks(Lines);

impl CustomizeConnection<PgConnection, Error> for Marks {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), Error> {
        use diesel::connection::SimpleConnection;
        connection.batch_execute("SET application_name = 'customized'")?;
        self.0.push("acquired".into());
        Ok(())
    }

    fn on_release(&self, connection: PgConnection) {
        self.0.push("released".into());
        drop(connection);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_customizer_sees_every_connection() {
    let server = Server::shared().await;
    let (old, new) = (server.role("custom", "p").await, server.role("custom", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let first = keeper.channel.current.get().unwrap().generation();
    let marks = Marks::default();
    let builder = server.postgres().pool(|pool| pool.max_size(3)).customizer(marks.clone());
    let pool = builder.connect(keeper.current()).await.unwrap();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    let rows =
        "SELECT DISTINCT usename, application_name FROM pg_stat_activity WHERE usename LIKE 't-custom-%'";
    server.wait_for_sessions(&old, 0).await;
    let sessions = server.postgres_server().query(rows).await.unwrap();
    assert_eq!(sessions, [[Some(new), Some("customized".to_owned())]]);
    let count = |what: &str| marks.0.all().iter().filter(|mark| *mark == what).count();
    assert_eq!((count("acquired"), count("released"), pool.state().connections), (6, 3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_instrumentation_sees_every_query() {
    let server = Server::shared().await;
    let user = server.role("seen", "p").await;
    let keeper = Keeper::with(&user, "p");
    let (seen, later) = (Lines::default(), Lines::default());
    let lines = seen.clone();
    let watch = |lines: Lines| {
        move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                lines.push(query.to_string());
            }
        }
    };
    let builder = server.postgres().pool(|pool| pool.max_size(1));
    let builder = builder.instrumentation(move || watch(lines.clone()));
    let pool = builder.connect(keeper.current()).await.unwrap();
    assert_eq!(user_of_next(&pool).await, user);
    assert!(seen.all().iter().any(|query| query.contains("session_user")), "{:?}", seen.all());
    let (lender, lines) = (pool.clone(), later.clone());
    blocking(move || {
        let mut connection = lender.get().unwrap();
        set_instrumentation(&mut connection, watch(lines));
        user_of(&mut connection);
        assert!(issued(&mut connection).is_some());
        drop(connection);
        // Not through us: then it is not known what opened the connection, and it is closed.
        let mut connection = lender.get().unwrap();
        let pid = pid_of(&mut connection);
        connection.set_instrumentation(|_: InstrumentationEvent<'_>| {});
        drop(connection);
        assert_ne!(pid_of(&mut lender.get().unwrap()), pid);
    })
    .await;
    assert!(later.all().iter().any(|query| query.contains("session_user")), "{:?}", later.all());
}

fn pid_of(connection: &mut PgConnection) -> i32 {
    use diesel::{RunQueryDsl, dsl::sql, select, sql_types::Integer};
    select(sql::<Integer>("pg_backend_pid()")).get_result(connection).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_silent_is_waited_for_no_longer_than_the_settings_say() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let keeper = Keeper::with("t-anybody", "p");
    let settings =
        leasehold_diesel::Settings { handshake: 2 * SECOND, ..leasehold_diesel::Settings::default() };
    let url = format!("postgres://{}/app", silent.local_addr().unwrap());
    let started = Instant::now();
    let error = Postgres::new(&url).unwrap().settings(settings).connect(keeper.current()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DatabaseUnavailable, "{error}");
    assert!(started.elapsed() < 4 * SECOND, "{:?}", started.elapsed());
}
