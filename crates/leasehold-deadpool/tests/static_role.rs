//! A static role: the password of the pools' user is replaced under them, by period and by an operator, on a real OpenBao.
//! One pool keeps its sessions; in the other each query opens one of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests are tests, and a test may print"
)]

mod adapter;
mod own_manager;

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use adapter::{Ask, shown};
use deadpool::managed::{self, Object, Pool};
use leasehold_core::{Event, EventKind, async_trait};
use leasehold_deadpool::{Manager, Settings, build, postgres::Postgres};
use leasehold_testbed::{
    conformance::{Failure, StaticLogin},
    load::Load,
};
use own_manager::Connector;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};
use tokio_postgres::Config;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genuine_pool_follows_without_a_failure() -> Result<(), Failure> {
    let login = StaticLogin::start(PERIOD).await?;
    let config = config(&login)?;
    let build = || Postgres::new(config.clone()).pool(|pool| pool.max_size(SIZE)).connect(login.current());
    let (quiet, busy) = (build().await.unwrap(), build().await.unwrap());
    follow(login, quiet, busy).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_of_ones_own_follows_without_a_failure() -> Result<(), Failure> {
    let login = StaticLogin::start(PERIOD).await?;
    let config = config(&login)?;
    let build = async || {
        let manager = Manager::new(Connector(config.clone()), login.current()).unwrap();
        build(Pool::builder(manager).max_size(SIZE), Settings::default()).await.unwrap()
    };
    let (quiet, busy) = (build().await, build().await);
    follow(login, quiet, busy).await
}

/// Three rotations by period and five by an operator: nothing fails, and no session that is kept is closed.
async fn follow<M>(login: StaticLogin, quiet: Pool<M>, busy: Pool<M>) -> Result<(), Failure>
where
    M: managed::Manager + 'static,
    M::Error: Display + Send,
    Pool<M>: Send + Sync,
    Object<M>: Ask,
{
    let (mut events, mut happened) = (login.current().events(), Vec::new());
    let kept = sessions_of(&quiet).await;
    let (calm, fresh) = (load(&quiet, 40, ask), load(&busy, 40, ask_once));
    for number in 2..=4 {
        login.generation(number).await?;
        happened.extend(so_far(&mut events));
    }
    fresh.wait_for(40).await;
    for round in 1..=5 {
        login.rotate().await?;
        let took = login.followed().await?;
        println!("rotation {round} by an operator: followed after {took:.0?}");
        fresh.wait_for(30).await;
    }
    happened.extend(so_far(&mut events));
    let (calm, fresh) = (calm.stop().await, fresh.stop().await);
    println!(
        "{} of {} queries failed, {} of {} that opened a connection; these took {:.1?}, and at most {:.0?}; {}",
        calm.failed,
        calm.queries,
        fresh.failed,
        fresh.queries,
        fresh.p50,
        fresh.max,
        summary(&happened)
    );
    assert_eq!(calm.failed, 0, "{:?}", calm.failures);
    assert_eq!(fresh.failed, 0, "{:?}", fresh.failures);
    assert!(fresh.queries > 400 && calm.queries > 400, "there was a load");
    assert_eq!(sessions_of(&quiet).await, kept, "a session was closed");
    assert!(kept.is_subset(&login.sessions().await?), "a session was closed");
    let adopted = happened.iter().filter(|event| matches!(event, EventKind::Adopted)).count();
    assert!(adopted >= 2 * 8, "two pools adopt eight passwords: {happened:?}");
    for event in happened {
        let closes = match event {
            EventKind::Retiring { .. } | EventKind::Terminated { .. } => true,
            EventKind::Retired { remaining } => remaining != Some(0),
            _ => false,
        };
        assert!(!closes, "{event:?}");
    }
    quiet.close();
    busy.close();
    drop((quiet, busy));
    login.stop().await
}

/// Opens all of a pool's connections, and returns the processes behind them.
async fn sessions_of<M>(pool: &Pool<M>) -> BTreeSet<String>
where
    M: managed::Manager,
    M::Error: Display,
    Object<M>: Ask,
{
    let (mut held, mut sessions) = (Vec::new(), BTreeSet::new());
    for _ in 0..SIZE {
        let mut connection = pool.get().await.map_err(shown).unwrap();
        sessions.insert(connection.ask("SELECT pg_backend_pid()::text").await.unwrap());
        held.push(connection);
    }
    sessions
}

fn load<M, F>(pool: &Pool<M>, rate: u32, query: impl Fn(Pool<M>) -> F + Send + 'static) -> Load
where
    M: managed::Manager + 'static,
    Pool<M>: Send,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let pool = pool.clone();
    Load::start(rate, move || query(pool.clone()))
}

async fn ask<M>(pool: Pool<M>) -> Result<(), String>
where
    M: managed::Manager,
    M::Error: Display,
    Object<M>: Ask,
{
    let mut connection = pool.get().await.map_err(|error| format!("no connection: {error}"))?;
    connection.ask(READ).await.map(drop)
}

/// Takes the connection away from the pool, so that the next one who asks opens another.
async fn ask_once<M>(pool: Pool<M>) -> Result<(), String>
where
    M: managed::Manager,
    M::Error: Display,
    Object<M>: Ask,
{
    let mut connection = pool.get().await.map_err(|error| format!("no connection: {error}"))?;
    let answer = connection.ask(READ).await;
    drop(Object::take(connection));
    answer.map(drop)
}

fn so_far(events: &mut Receiver<Event>) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    loop {
        match events.try_recv() {
            Ok(event) => kinds.push(event.kind),
            Err(TryRecvError::Lagged(missed)) => panic!("{missed} events were missed"),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return kinds,
        }
    }
}

fn summary(happened: &[EventKind]) -> String {
    let count = |pick: fn(&EventKind) -> bool| happened.iter().filter(|kind| pick(kind)).count();
    let rejected = count(|kind| matches!(kind, EventKind::Rejected { .. }));
    let failed = count(|kind| matches!(kind, EventKind::Failed { .. }));
    format!("{rejected} rejects, {failed} failures of the keeper or the driver")
}

fn config(login: &StaticLogin) -> Result<Config, Failure> {
    let target = login.target()?;
    let mut config = Config::new();
    config.host(&target.host).port(target.port).dbname(&target.database);
    Ok(config)
}

#[async_trait]
impl Ask for deadpool_postgres::Object {
    async fn ask(&mut self, sql: &'static str) -> Result<String, String> {
        let row = self.query_one(sql, &[]).await.map_err(shown)?;
        row.try_get(0).map_err(shown)
    }
}

/// The shortest that OpenBao allows.
const PERIOD: Duration = Duration::from_secs(5);
const SIZE: usize = 4;
const READ: &str = "SELECT count(*)::text FROM measurements";
