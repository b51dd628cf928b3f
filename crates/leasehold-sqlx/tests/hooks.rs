//! The user's hooks run, after ours; and nothing slips through ours.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{Admin, HOUR, SECOND, Server, fill, nap, user_of, user_of_next};
use leasehold_core::{ErrorKind, Event, EventKind};
use leasehold_sqlx::Postgres;
use leasehold_testbed::{Link, conformance::Keeper};
use sqlx::{
    PgPool,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions, PgSslMode},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_three_run_with_their_own_verdicts() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let keeper = Keeper::with(&admin.role("hooks", "p").await, "p");
    let calls = Arc::new(Mutex::new(Vec::new()));
    let close_next = Arc::new(AtomicBool::new(false));
    let note = |name: &'static str| {
        let calls = Arc::clone(&calls);
        move || calls.lock().unwrap().push(name)
    };
    let (connected, acquired, released) = (note("connect"), note("acquire"), note("release"));
    let closes = Arc::clone(&close_next);
    let pool = Postgres::new(server.options())
        // Hooks in here are replaced: this one would fail every check-out.
        .pool_settings(
            PgPoolOptions::new()
                .max_connections(1)
                .before_acquire(|_, _| Box::pin(async { Err(sqlx::Error::RowNotFound) })),
        )
        .after_connect(move |connection, _| {
            connected();
            Box::pin(async move {
                sqlx::raw_sql("SET application_name = 'mine'").execute(connection).await.map(drop)
            })
        })
        .before_acquire(move |_, metadata| {
            acquired();
            Box::pin(async move { Ok(metadata.idle_for < SECOND) })
        })
        .after_release(move |_, _| {
            released();
            let keep = !closes.load(Ordering::Relaxed);
            Box::pin(async move { Ok(keep) })
        })
        .connect(keeper.current())
        .await
        .unwrap();
    assert_eq!(pool.options().get_max_connections(), 1);
    let name: String = sqlx::query_scalar("SHOW application_name").fetch_one(&pool).await.unwrap();
    assert_eq!(name, "mine");
    nap(50).await;
    assert_eq!(*calls.lock().unwrap(), ["connect", "acquire", "release"]);
    nap(1200).await;
    close_next.store(true, Ordering::Relaxed);
    drop(pool.acquire().await.unwrap());
    nap(50).await;
    assert_eq!(calls.lock().unwrap()[3..], ["acquire", "connect", "release"], "idle for too long: another");
    assert_eq!(pool.size(), 0);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_run_for_replacements_too() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("setup", "p").await, admin.role("setup", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(4).after_connect(|connection, _| {
        Box::pin(
            async move { sqlx::raw_sql("SET application_name = 'mine'").execute(connection).await.map(drop) },
        )
    });
    let pool = pool.connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let first = keeper.channel.current.get().unwrap().generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    for _ in 0..8 {
        let name: String = sqlx::query_scalar("SHOW application_name").fetch_one(&pool).await.unwrap();
        assert_eq!(name, "mine");
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_straddles_the_switch_gives_a_connection_of_the_new_user() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let Late { old, new, link, mut keeper, pool, held } = Late::begin(server, &admin, 4).await;
    let late = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.unwrap() }
    });
    nap(300).await;
    link.delay_handshakes(Duration::ZERO);
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    assert!(!late.is_finished());
    let mut late = late.await.unwrap();
    assert_eq!(user_of(&mut late).await, new);
    drop((late, held));
    admin.wait_for_sessions(&old, 0, 5 * SECOND).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_user_is_not_let_go_before_a_handshake_under_way_is_counted() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("early", "p").await, admin.role("early", "p").await);
    let link = Link::to("127.0.0.1", server.port()).await.unwrap();
    let mut keeper = Keeper::with(&old, "p");
    let options = server.options_at(link.port()).ssl_mode(PgSslMode::Disable);
    // Nothing else is open that the database could count.
    let pool = Postgres::new(options).canary_interval(None).connect_lazy(keeper.current()).unwrap();
    link.delay_handshakes(SECOND);
    let late = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    nap(300).await;
    link.delay_handshakes(Duration::ZERO);
    let first = keeper.channel.current.get().unwrap().generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    admin.run(&format!("DROP ROLE \"{old}\"")).await;
    late.await.unwrap().expect("the caller was refused");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_hook_of_the_user_does_not_let_an_old_connection_stay() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("slow", "p").await, admin.role("slow", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let pool = Postgres::new(server.options()).max_connections(4).after_connect(move |connection, _| {
        let slow = is_slow.load(Ordering::Relaxed);
        Box::pin(async move {
            if slow {
                sqlx::raw_sql("SELECT pg_sleep(1)").execute(connection).await?;
            }
            Ok(())
        })
    });
    let pool = pool.connect(keeper.current()).await.unwrap();
    let held = pool.acquire().await.unwrap();
    slow.store(true, Ordering::Relaxed);
    let late = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.unwrap() }
    });
    nap(300).await;
    slow.store(false, Ordering::Relaxed);
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    let mut late = late.await.unwrap();
    // Our hook looked before the switch, and the connection is younger than the switch.
    assert_eq!(user_of(&mut late).await, old);
    drop((late, held));
    admin.wait_for_sessions(&old, 0, 5 * SECOND).await;
    assert_eq!(user_of_next(&pool).await, new);
    pool.close().await;
}

async fn listen(pool: &PgPool) -> PgListener {
    let mut listener = PgListener::connect_with(pool).await.unwrap();
    listener.listen("orders").await.unwrap();
    listener
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_follows_when_its_connection_is_the_last_old_one_and_misses_nothing() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let (old, new) = (admin.role("listen", "p").await, admin.role("listen", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = Postgres::new(server.options()).max_connections(4).connect(keeper.current()).await.unwrap();
    fill(&pool, 4).await;
    let (listening, mut events) = (pool.clone(), keeper.current().events());
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let ears = Arc::clone(&heard);
    let handle = move |notification: PgNotification| {
        ears.lock().unwrap().insert(notification.payload().parse::<u32>().unwrap());
    };
    let mut listener = listen(&pool).await;
    // As the README does it.
    let follower = tokio::spawn(async move {
        loop {
            tokio::select! {
                notification = listener.recv() => handle(notification.unwrap()),
                event = events.recv() => {
                    if let Ok(Event { kind: EventKind::Retiring { remaining: 1 }, .. }) = event {
                        let next = listen(&listening).await;
                        sqlx::query("SELECT 1").execute(&mut listener).await.unwrap();
                        while let Some(notification) = listener.next_buffered() {
                            handle(notification);
                        }
                        listener = next;
                    }
                }
            }
        }
    });
    let speaker = tokio::spawn(async move {
        for number in 0..1500 {
            admin.run(&format!("NOTIFY orders, '{number}'")).await;
            nap(2).await;
        }
        admin
    });
    nap(300).await;
    let first = keeper.channel.current.get().unwrap().generation();
    keeper.publish(&new, "p", HOUR);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    assert_eq!(keeper.channel.farewells.recv().await.generation(), first, "and its lease is revoked");
    let admin = speaker.await.unwrap();
    nap(500).await;
    assert_eq!(admin.sessions(&old).await, 0);
    assert_eq!(*heard.lock().unwrap(), (0..1500).collect());
    follower.abort();
    let _ = follower.await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_in_what_is_printed() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let user = admin.role("printed", "s3cret").await;
    let keeper = Keeper::with(&user, "s3cret");
    let builder =
        Postgres::new(server.options().password("s3cret")).after_connect(|_, _| Box::pin(async { Ok(()) }));
    let printed = format!("{builder:?}");
    assert!(printed.contains("127.0.0.1") && printed.contains("after_connect: true"), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
    let pool = builder.connect(keeper.current()).await.unwrap();
    assert!(!format!("{pool:?}").contains("s3cret"));
    pool.close().await;
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let keeper = Keeper::with("a", "p");
    let nameless = Postgres::new(PgConnectOptions::new_without_pgpass().host("db"));
    assert_eq!(nameless.connect_lazy(keeper.current()).unwrap_err().kind(), ErrorKind::Configuration);
    let empty = Keeper::new();
    let pool = Postgres::from_url("postgres://db/orders").unwrap();
    assert_eq!(pool.connect_lazy(empty.current()).unwrap_err().kind(), ErrorKind::NotYet);
    for url in [
        "postgres://me@db/orders",
        "postgres://me:s3cret@db/orders",
        "postgres://:s3cret@db/orders",
        "postgres://db/orders?user=me",
        "postgres://db/orders?password=s3cret",
        "postgres://me:s3/cret@db/orders",
        "mysql://db/orders",
        "db",
        "postgres://db/orders?sslmode=s3cret",
    ] {
        let error = Postgres::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
        assert!(url.contains("sslmode") || !error.to_string().contains("s3"), "{error}");
    }
    assert!(Postgres::from_url("postgresql://db:5433/orders?application_name=x&sslmode=require").is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_handshakes_that_straddle_the_switch_are_no_burst() {
    let server = Server::shared().await;
    let admin = server.admin().await;
    let Late { old, new, link, mut keeper, pool, held } = Late::begin(server, &admin, 12).await;
    let late: Vec<_> = std::iter::repeat_with(|| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire().await.unwrap() })
    })
    .take(11)
    .collect();
    nap(300).await;
    link.delay_handshakes(Duration::ZERO);
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    let (mut most, end) = (0, tokio::time::Instant::now() + 3 * SECOND);
    while tokio::time::Instant::now() < end {
        most = most.max(admin.sessions(&old).await + admin.sessions(&new).await);
        nap(2).await;
    }
    // The canary, one that is opened in the place of another, and one that the server lists for a moment longer.
    assert!(most <= 12 + 3, "{most} sessions at once");
    for task in late {
        drop(task.await.unwrap());
    }
    drop(held);
    pool.close().await;
}

/// A pool with one connection, behind a link that from now on takes a second for a handshake.
struct Late {
    old: String,
    new: String,
    link: Link,
    keeper: Keeper,
    pool: PgPool,
    held: PoolConnection<sqlx::Postgres>,
}

impl Late {
    async fn begin(server: &Server, admin: &Admin, max_connections: u32) -> Self {
        let (old, new) = (admin.role("late", "p").await, admin.role("late", "p").await);
        let link = Link::to("127.0.0.1", server.port()).await.unwrap();
        let keeper = Keeper::with(&old, "p");
        let options = server.options_at(link.port()).ssl_mode(PgSslMode::Disable);
        let pool = Postgres::new(options).max_connections(max_connections);
        let pool = pool.connect(keeper.current()).await.unwrap();
        let held = pool.acquire().await.unwrap();
        link.delay_handshakes(SECOND);
        Self { old, new, link, keeper, pool, held }
    }
}
