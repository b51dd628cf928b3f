//! A PostgreSQL server, a keeper that publishes what it is told, and threads that count their failures.
#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "every test binary uses a part of it, and a test may print"
)]

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use diesel::{RunQueryDsl, dsl::sql, pg::PgConnection, select, sql_types::Text};
use leasehold_core::clock::{Clock, SystemClock, sleep_until};
use leasehold_diesel::{Pool, Postgres};
use leasehold_testbed::{Config, Testbed};
use tokio::time::Instant;

pub(crate) type PgPool = Pool<PgConnection>;

/// Servers that end with the last test that uses them.
pub(crate) struct Server(Testbed);

impl Server {
    pub(crate) async fn shared() -> Arc<Self> {
        static STARTING: tokio::sync::Mutex<Weak<Server>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = STARTING.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self(Testbed::start(Config::default()).await.unwrap()));
        *shared = Arc::downgrade(&server);
        server
    }

    pub(crate) fn postgres(&self) -> Postgres {
        Postgres::new(self.database_url()).unwrap()
    }

    /// The server itself, as its superuser sees it.
    pub(crate) fn postgres_server(&self) -> &leasehold_testbed::Postgres {
        self.0.postgres()
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.postgres_server().execute(sql).await.unwrap();
    }

    pub(crate) async fn role(&self, name: &str, password: &str) -> String {
        self.role_with(name, password, "").await
    }

    /// Makes a role whose name no other test has, and returns the name.
    pub(crate) async fn role_with(&self, name: &str, password: &str, options: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t-{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let password = password.replace('\'', "''");
        self.run(&format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}' {options}")).await;
        name
    }

    pub(crate) async fn sessions(&self, user: &str) -> usize {
        self.postgres_server().sessions_of(user).await.unwrap()
    }

    pub(crate) async fn wait_for_sessions(&self, user: &str, wanted: usize) {
        let deadline = Instant::now() + 10 * SECOND;
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

impl Deref for Server {
    type Target = Testbed;

    fn deref(&self) -> &Testbed {
        &self.0
    }
}

/// Threads that use a pool at a steady pace.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Calls>>,
}

/// Which failed, and how long each took.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) failures: Vec<String>,
    pub(crate) latencies: Vec<Duration>,
}

impl Load {
    pub(crate) fn start(pool: &PgPool, callers: usize, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (pool, stop) = (pool.clone(), Arc::clone(&stop));
            thread::spawn(move || call(&pool, &stop, pace))
        };
        let callers = (0..callers).map(caller).collect();
        Self { stop, callers }
    }

    pub(crate) fn stop(self) -> Calls {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Calls::default();
        for caller in self.callers {
            let calls = caller.join().unwrap();
            all.failures.extend(calls.failures);
            all.latencies.extend(calls.latencies);
        }
        all.latencies.sort_unstable();
        all
    }
}

impl Calls {
    pub(crate) fn print(&self, what: &str) {
        let [half, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|part| self.quantile(part));
        println!(
            "{what}: {} queries, p50 {half:?} p99 {p99:?} p99.9 {p999:?} max {most:?}",
            self.latencies.len()
        );
    }

    fn quantile(&self, part: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * part) as usize]
    }
}

fn call(pool: &PgPool, stop: &AtomicBool, pace: Duration) -> Calls {
    let mut calls = Calls::default();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(pace);
        let before = SystemClock.now();
        let failed = match pool.get() {
            // Reads the catalogue: a ping would succeed even for a user that was dropped.
            Ok(mut connection) => {
                let counted = diesel::sql_query("SELECT count(*) FROM pg_namespace").execute(&mut connection);
                counted.err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        calls.latencies.push(before.until(SystemClock.now()));
        calls.failures.extend(failed);
    }
    calls
}

pub(crate) fn user_of(connection: &mut PgConnection) -> String {
    select(sql::<Text>("session_user::text")).get_result(connection).unwrap()
}

pub(crate) async fn user_of_next(pool: &PgPool) -> String {
    let pool = pool.clone();
    blocking(move || user_of(&mut pool.get().unwrap())).await
}

/// What blocks, elsewhere.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

pub(crate) async fn nap(millis: u64) {
    sleep_until(&SystemClock, SystemClock.now() + Duration::from_millis(millis)).await;
}

/// What a log would have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
