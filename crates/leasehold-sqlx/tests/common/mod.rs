//! A PostgreSQL server, a keeper that publishes what it is told, and callers who count their failures.
#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "every test binary uses a part of it, and a test may print"
)]

pub(crate) mod proxy;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use leasehold_core::clock::{Clock, SystemClock, sleep_until};
use leasehold_testbed::{Config, Testbed};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    sync::OnceCell,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// A testbed, of which only PostgreSQL is of interest.
pub(crate) struct Server {
    testbed: Testbed,
}

impl Server {
    /// The one server of this test binary, which ends with the process.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<Server> = OnceCell::const_new();
        // `cargo test` runs as many tests at once as there are processors, and they must not fill it.
        SHARED.get_or_init(|| Self::start(&["max_connections = 200"])).await
    }

    /// Starts one with settings of its own.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let testbed = Testbed::start(Config::default()).await.unwrap();
        let postgres = testbed.postgres();
        for setting in settings {
            // One by one: what is sent together is one transaction, and this cannot be part of any.
            postgres.execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
        }
        postgres.stop().await.unwrap();
        postgres.start_again().await.unwrap();
        Self { testbed }
    }

    pub(crate) fn port(&self) -> u16 {
        self.testbed.postgres().port()
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options_at(self.port())
    }

    pub(crate) fn options_at(&self, port: u16) -> PgConnectOptions {
        let postgres = self.testbed.postgres();
        let options = PgConnectOptions::new_without_pgpass().host(postgres.host()).port(port);
        options.database(postgres.database())
    }

    pub(crate) async fn admin(&self) -> Admin {
        let options: PgConnectOptions = self.testbed.postgres().superuser_url().parse().unwrap();
        Admin(PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap())
    }
}

/// The database's administrator.
pub(crate) struct Admin(pub(crate) PgPool);

impl Admin {
    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.0).await.unwrap();
    }

    /// Makes a role whose name no other test has, and returns the name.
    pub(crate) async fn role(&self, name: &str, password: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("v-{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let password = password.replace('\'', "''");
        self.run(&format!(
            "SET standard_conforming_strings = on; CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'"
        ))
        .await;
        name
    }

    pub(crate) async fn sessions(&self, user: &str) -> usize {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        let count: i64 = sqlx::query_scalar(sql).bind(user).fetch_one(&self.0).await.unwrap();
        usize::try_from(count).unwrap()
    }

    pub(crate) async fn wait_for_sessions(&self, user: &str, wanted: usize, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let sessions = self.sessions(user).await;
            if sessions == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{user} has {sessions} sessions, not {wanted}");
            nap(20).await;
        }
    }
}

/// Callers who use a pool at a steady pace.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Calls>>,
    watcher: JoinHandle<()>,
    smallest: Arc<AtomicU32>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) queries: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) smallest: u32,
}

impl Load {
    pub(crate) fn start(pool: &PgPool, callers: usize, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let smallest = Arc::new(AtomicU32::new(pool.size()));
        let caller = |_| tokio::spawn(call(pool.clone(), Arc::clone(&stop), pace));
        let callers = (0..callers).map(caller).collect();
        let (watched, least) = (pool.clone(), Arc::clone(&smallest));
        let watcher = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(1));
            loop {
                ticks.tick().await;
                least.fetch_min(watched.size(), Ordering::Relaxed);
            }
        });
        Self { stop, callers, watcher, smallest }
    }

    pub(crate) async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.abort();
        let smallest = self.smallest.load(Ordering::Relaxed);
        let mut outcome = Outcome { queries: 0, failures: Vec::new(), latencies: Vec::new(), smallest };
        for caller in self.callers {
            let (queries, failures, latencies) = caller.await.unwrap();
            outcome.queries += queries;
            outcome.failures.extend(failures);
            outcome.latencies.extend(latencies);
        }
        outcome.latencies.sort_unstable();
        outcome
    }
}

impl Outcome {
    pub(crate) fn print(&self, what: &str) {
        let [half, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|part| self.quantile(part));
        let (queries, smallest) = (self.queries, self.smallest);
        println!(
            "{what}: {queries} queries, p50 {half:?} p99 {p99:?} p99.9 {p999:?} max {most:?}, size {smallest} or more"
        );
    }

    fn quantile(&self, part: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * part) as usize]
    }
}

/// How many, which failed, and how long each took.
type Calls = (usize, Vec<String>, Vec<Duration>);

async fn call(pool: PgPool, stop: Arc<AtomicBool>, pace: Duration) -> Calls {
    let (mut queries, mut failures, mut latencies) = (0, Vec::new(), Vec::new());
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let before = Instant::now();
        // Reads the catalogue: a ping would succeed even for a user that was dropped.
        let answer = sqlx::query("SELECT count(*) FROM pg_namespace").execute(&pool).await;
        latencies.push(before.elapsed());
        queries += 1;
        failures.extend(answer.err().map(|error| error.to_string()));
    }
    (queries, failures, latencies)
}

/// Opens `count` connections of a pool and puts them back.
pub(crate) async fn fill(pool: &PgPool, count: usize) {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(pool.acquire().await.unwrap());
    }
    drop(held);
    nap(50).await;
}

pub(crate) async fn user_of(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("SELECT session_user::text").fetch_one(connection).await.unwrap()
}

pub(crate) async fn user_of_next(pool: &PgPool) -> String {
    user_of(&mut pool.acquire().await.unwrap()).await
}

pub(crate) async fn connects(options: PgConnectOptions, user: &str, password: &str) -> bool {
    let answer = PgConnection::connect_with(&options.username(user).password(password)).await;
    match answer {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

pub(crate) async fn nap(millis: u64) {
    sleep_until(&SystemClock, SystemClock.now() + Duration::from_millis(millis)).await;
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
