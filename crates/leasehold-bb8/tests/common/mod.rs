//! A PostgreSQL server, a keeper that publishes what it is told, and callers who count their failures.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leasehold_bb8::postgres::{Pool, Postgres};
use leasehold_core::clock::{Clock, SystemClock, sleep_until};
use leasehold_testbed::{Config, Testbed, conformance::Keeper, load::Load};
use tokio::{sync::OnceCell, task::JoinHandle, time::Instant};
use tokio_postgres::{Client, NoTls};

/// The database's administrator, on the one server of this test binary.
#[derive(Clone)]
pub(crate) struct Admin {
    client: Arc<Client>,
    testbed: &'static Testbed,
}

impl Admin {
    pub(crate) async fn new() -> Self {
        static SHARED: OnceCell<Testbed> = OnceCell::const_new();
        let start = || async { Testbed::start(Config::default()).await.unwrap() };
        let testbed = SHARED.get_or_init(start).await;
        let config: tokio_postgres::Config = testbed.postgres().superuser_url().parse().unwrap();
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        Self { client: Arc::new(client), testbed }
    }

    /// How to connect, but for the credentials.
    pub(crate) fn config(&self) -> tokio_postgres::Config {
        self.config_of("app")
    }

    pub(crate) fn config_of(&self, database: &str) -> tokio_postgres::Config {
        let postgres = self.testbed.postgres();
        let mut config = tokio_postgres::Config::new();
        config.host(postgres.host()).port(postgres.port()).dbname(database);
        config
    }

    /// A pool of at most `max` connections.
    pub(crate) async fn pool(&self, max: u32, keeper: &Keeper) -> Pool {
        self.postgres(max).connect(keeper.current()).await.unwrap()
    }

    pub(crate) fn postgres(&self, max: u32) -> Postgres {
        Postgres::new(self.config()).pool(move |pool| pool.max_size(max))
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Makes a role whose name no other test has, and returns the name.
    pub(crate) async fn role(&self, name: &str, password: &str) -> String {
        let name = unique(&format!("v-{name}"));
        let password = password.replace('\'', "''");
        self.run(&format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'")).await;
        name
    }

    pub(crate) async fn sessions(&self, users: &[String]) -> usize {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY($1)";
        let count: i64 = self.client.query_one(sql, &[&users]).await.unwrap().get(0);
        usize::try_from(count).unwrap()
    }

    pub(crate) async fn wait_for_sessions(&self, user: &str, wanted: usize, within: Duration) {
        let (users, deadline) = ([user.to_owned()], Instant::now() + within);
        loop {
            let sessions = self.sessions(&users).await;
            if sessions == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{user} has {sessions} sessions, not {wanted}");
            nap(20).await;
        }
    }

    /// Counts the sessions of these users until it is asked for the most there were, in two looks that follow each other:
    /// the server lists a session for a moment after its client has said good-bye, and under load that is milliseconds.
    pub(crate) fn watch(&self, users: &[String]) -> Watch {
        let most = Arc::new(AtomicUsize::new(0));
        let (admin, users, seen) = (self.clone(), users.to_vec(), Arc::clone(&most));
        let task = tokio::spawn(async move {
            let mut before = 0;
            loop {
                let now = admin.sessions(&users).await;
                seen.fetch_max(now.min(before), Ordering::Relaxed);
                before = now;
                nap(2).await;
            }
        });
        Watch { task, most }
    }
}

pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) struct Watch {
    task: JoinHandle<()>,
    most: Arc<AtomicUsize>,
}

impl Watch {
    pub(crate) fn most(self) -> usize {
        assert!(!self.task.is_finished(), "the watch ended by itself");
        self.task.abort();
        self.most.load(Ordering::Relaxed)
    }
}

/// Queries at a fixed rate, each on a connection of its own for as long as it takes.
pub(crate) fn load(pool: &Pool, rate: u32) -> Load {
    let pool = pool.clone();
    Load::start(rate, move || {
        let pool = pool.clone();
        async move { query(&pool).await }
    })
}

/// Reads the catalogue: a ping would succeed even for a user that was dropped.
pub(crate) async fn query(pool: &Pool) -> Result<(), String> {
    let connection = pool.get().await.map_err(|error| error.to_string())?;
    let sql = "SELECT count(*) FROM pg_namespace";
    connection.query_one(sql, &[]).await.map(drop).map_err(|error| format!("{error:?}"))
}

/// Opens `count` connections of a pool and puts them back.
pub(crate) async fn fill(pool: &Pool, count: u32) {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(pool.get().await.unwrap());
    }
    drop(held);
}

pub(crate) async fn user_of(client: &Client) -> String {
    client.query_one("SELECT session_user::text", &[]).await.unwrap().get(0)
}

pub(crate) async fn user_of_next(pool: &Pool) -> String {
    user_of(&pool.get().await.unwrap()).await
}

pub(crate) async fn pid_of(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

pub(crate) async fn nap(millis: u64) {
    sleep_until(&SystemClock, SystemClock.now() + Duration::from_millis(millis)).await;
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
