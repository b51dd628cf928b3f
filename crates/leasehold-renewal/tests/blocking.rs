//! Keepers in a program without tokio, in real time: there is no paused clock without a runtime.
//!
//! Each test counts the process's threads, so they run one after the other.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is made of")]

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use leasehold_core::{
    Credentials, Error, ErrorKind, Grant, Issued, Lease, Party, Provider, Record, Renewed, Result, Retired,
    Revoked, Rotate, Status, async_trait,
    clock::{Clock, SystemClock, sleep_until},
    drive,
};
use leasehold_renewal::{
    Builder, StartPolicy,
    blocking::{self, Runtime},
};

#[test]
fn a_plain_program_reads_and_shuts_down() {
    let _alone = alone();
    let server = Server::lending(LONG);
    let runtime = Runtime::start().unwrap();
    let login = runtime.keep(server.clone()).unwrap();
    let current = login.current();
    assert_eq!(current.get().unwrap().secret().username(), "user-1");
    assert_eq!(login.health().status, Status::Healthy);
    assert!(login.health().is_usable());
    let mut events = login.events();

    login.shutdown().unwrap();
    assert_eq!(server.live(), [""; 0], "revoked by the time it returns");
    assert_eq!(current.get().unwrap_err().kind(), ErrorKind::Closed);
    assert!(events.blocking_recv().is_ok(), "a plain thread hears of it");
    assert_eq!(threads(), 1, "for the next keeper");
    let again = runtime.keep(server.clone()).unwrap();
    again.shutdown().unwrap();
    drop(runtime);
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn a_rotation_is_waited_for() {
    let _alone = alone();
    let server = Server::lending(SHORT);
    let login = Runtime::start().unwrap().keep(server.clone()).unwrap();
    let mut current = login.current();
    assert!(blocking::changed(&mut current, Duration::from_millis(20)).unwrap().is_none(), "not yet");
    let next = blocking::changed(&mut current, PATIENCE).unwrap().expect("a successor in time");
    assert_eq!(next.secret().username(), "user-2");
    eventually("the one before is revoked", || server.live() == ["user-2"]);

    drop(next);
    login.shutdown().unwrap();
    assert_eq!(server.live(), [""; 0]);
}

#[test]
fn what_shows_that_it_has_changed_is_followed_long_before_its_end() {
    let _alone = alone();
    let server = Server::lending(LONG);
    let login = Runtime::start().unwrap().keep(server.clone()).unwrap();
    let mut current = login.current();
    server.set(|state| state.another = true);
    let next = blocking::changed(&mut current, PATIENCE).unwrap().expect("it shows");
    assert_eq!(next.secret().username(), "user-2");
    drop(next);
    login.shutdown().unwrap();
}

#[test]
fn one_who_waits_hears_of_the_end_at_once() {
    let _alone = alone();
    let login = Runtime::start().unwrap().keep(Server::lending(LONG)).unwrap();
    let mut current = login.current();
    let waiting = thread::spawn(move || blocking::changed(&mut current, Duration::MAX).unwrap_err());
    thread::sleep(Duration::from_millis(50));
    login.shutdown().unwrap();
    assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
}

#[test]
fn a_secret_that_is_not_there_yet_is_waited_for() {
    let _alone = alone();
    let server = Server::lending(LONG);
    server.set(|state| state.down = Some(ErrorKind::Unreachable));
    let settings = Builder::new().start_policy(StartPolicy::Degraded);
    let login = Runtime::start().unwrap().keep_with(settings, server.clone()).unwrap();
    let current = login.current();
    assert!(blocking::ready(&current, Duration::from_millis(50)).unwrap().is_none());
    server.set(|state| state.down = None);
    let first = blocking::ready(&current, PATIENCE).unwrap().expect("in time");
    let same = blocking::ready(&current, PATIENCE).unwrap().expect("at once");
    assert_eq!(first.generation(), same.generation());
}

#[test]
fn while_a_current_is_left_it_goes_on() {
    let _alone = alone();
    let server = Server::lending(SHORT);
    let mut current = {
        let runtime = Runtime::start().unwrap();
        let login = runtime.keep(server.clone()).unwrap();
        login.current() // as the manager of an r2d2 pool holds it
    };
    for generation in 2..=3 {
        let next = blocking::changed(&mut current, PATIENCE).unwrap().expect("a successor in time");
        assert_eq!(next.generation().number(), generation);
    }
    assert_eq!(threads(), 1);
    drop(current);
    eventually("revoked when the last handle went", || server.live().is_empty());
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn the_thread_waits_for_the_last_user_and_then_for_the_revocation() {
    let _alone = alone();
    let server = Server::lending(LONG);
    let user = Runtime::start().unwrap().keep(server.clone()).unwrap().current().get().unwrap();
    thread::sleep(Duration::from_millis(200));
    assert_eq!((server.live().len(), threads()), (1, 1), "not revoked under its user");
    server.set(|state| state.slow = Duration::from_millis(300));
    drop(user);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(threads(), 1, "the request is in flight");
    eventually("revoked", || server.live().is_empty());
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_no_thread() {
    let _alone = alone();
    let server = Server::lending(LONG);
    server.set(|state| state.down = Some(ErrorKind::Denied));
    let error = Runtime::start().unwrap().keep(server.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    eventually("the thread ends", || threads() == 0);

    server.set(|state| (state.down, state.panics) = (None, Some("issue")));
    let at_once = Builder::new().start_policy(StartPolicy::FailAtOnce);
    let error = Runtime::start().unwrap().keep_with(at_once, server.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
    eventually("the thread ends", || threads() == 0);

    server.set(|state| state.panics = Some("name"));
    let error = Runtime::start().unwrap().keep(server).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn a_provider_that_panics_degrades_its_own_keeper_only() {
    let _alone = alone();
    let (steady, broken) = (Server::lending(SHORT), Server::lending(SHORT));
    let runtime = Runtime::start().unwrap();
    let (good, bad) = (runtime.keep(steady.clone()).unwrap(), runtime.keep(broken.clone()).unwrap());
    drop(runtime);
    let mut current = good.current();
    broken.set(|state| state.panics = Some("issue"));
    eventually("it is said", || bad.health().status != Status::Healthy);
    let next = blocking::changed(&mut current, PATIENCE).unwrap().expect("the other one rotates");
    let newer = blocking::changed(&mut current, PATIENCE).unwrap().expect("and goes on");
    assert!(newer.generation() > next.generation());
    bad.shutdown().unwrap();
    drop((next, newer, current));
    good.shutdown().unwrap();
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn with_vault_down_slow_or_the_thread_stuck_a_shutdown_is_bounded() {
    let _alone = alone();
    let bound = Duration::from_millis(300);
    for (trouble, kind) in [
        (State { down: Some(ErrorKind::Sealed), ..State::default() }, ErrorKind::Sealed),
        (State { slow: Duration::from_secs(2), ..State::default() }, ErrorKind::Unreachable),
        (State { stuck: Duration::from_secs(2), ..State::default() }, ErrorKind::Unreachable),
    ] {
        let server = Server::lending(LONG);
        let login = Runtime::start().unwrap().keep(server.clone()).unwrap();
        server.set(|state| {
            (state.down, state.slow, state.stuck) = (trouble.down, trouble.slow, trouble.stuck);
        });
        let begun = SystemClock.now();
        let error = login.shutdown_within(bound).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let took = begun.until(SystemClock.now());
        assert!(took < bound + Duration::from_millis(1400), "{took:?}");
        eventually("the thread ends", || threads() == 0);
    }
}

#[test]
fn within_tokio_what_blocks_refuses() {
    let _alone = alone();
    let server = Server::lending(LONG);
    let runtime = Runtime::start().unwrap();
    let login = runtime.keep(server.clone()).unwrap();
    let mut current = login.current();
    for mut tokio in
        [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()]
    {
        tokio.enable_all().build().unwrap().block_on(async {
            let refused = ErrorKind::Configuration;
            assert_eq!(Runtime::start().unwrap_err().kind(), refused);
            assert_eq!(runtime.keep(server.clone()).unwrap_err().kind(), refused);
            assert_eq!(blocking::changed(&mut current, PATIENCE).unwrap_err().kind(), refused);
            assert_eq!(blocking::ready(&current, PATIENCE).unwrap_err().kind(), refused);
            let in_pool = runtime.clone();
            let refusal = tokio::task::spawn_blocking(move || in_pool.keep(Server::lending(LONG)).map(drop));
            assert_eq!(refusal.await.unwrap().unwrap_err().kind(), refused);
            assert_eq!(current.get().unwrap().generation().number(), 1, "reading is free");
        });
    }
    assert_eq!((server.count("issue"), threads()), (1, 1));

    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let refusal = tokio.block_on(async move {
        drop(runtime);
        login.shutdown().unwrap_err()
    });
    assert_eq!(refusal.kind(), ErrorKind::Configuration);
    drop(current);
    eventually("begun all the same", || server.live().is_empty());
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn a_pool_is_driven_until_its_task_is_dropped() {
    let _alone = alone();
    let server = Server::lending(SHORT);
    let runtime = Runtime::start().unwrap();
    let login = runtime.keep(server.clone()).unwrap();
    let current = login.current();
    let pool = Pool::default();
    let (driven, in_force) = (pool.clone(), current.get().unwrap());
    let task = runtime.spawn(async move { drive(current, in_force, &driven).await });
    drop((runtime, login));

    eventually("adopted on another thread", || pool.adopted.lock().unwrap().len() >= 2);
    assert_eq!(pool.adopted.lock().unwrap()[..2], ["user-2", "user-3"]);
    assert!(!task.has_ended());
    eventually("one thread, and none that is yet to name itself", || threads() == 1);
    drop(task);
    eventually("the future is dropped", || Arc::strong_count(&pool.adopted) == 1);
    eventually("and with it the last reader", || server.live().is_empty());
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn a_task_that_ends_or_panics_leaves_the_thread_to_the_others() {
    let _alone = alone();
    let runtime = Runtime::start().unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let run = Arc::clone(&ran);
    let ends = runtime.spawn(async move { run.store(true, Ordering::Release) });
    let panics = runtime.spawn(async { panic!("scripted") });
    eventually("both have ended", || ends.has_ended() && panics.has_ended());
    assert!(ran.load(Ordering::Acquire));
    runtime.keep(Server::lending(LONG)).unwrap().shutdown().unwrap();
    drop(runtime);
    eventually("the thread ends", || threads() == 0);
}

#[test]
fn a_keeper_that_waits_uses_no_cpu() {
    let _alone = alone();
    let login = Runtime::start().unwrap().keep(Server::lending(LONG)).unwrap();
    thread::sleep(Duration::from_millis(100));
    let before = switches();
    thread::sleep(Duration::from_secs(1));
    assert!(switches() - before <= 3, "{before} {}", switches());
    drop(login);
}

#[test]
fn handles_go_to_other_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Runtime>();
    shared::<blocking::Keeper<Credentials>>();
    shared::<blocking::Task>();

    let _alone = alone();
    let runtime = Runtime::start().unwrap();
    let starts = [1, 2].map(|_| {
        let runtime = runtime.clone();
        thread::spawn(move || runtime.keep(Server::lending(LONG)).unwrap())
    });
    let logins = starts.map(|start| start.join().unwrap());
    assert_eq!(threads(), 1);
    let ends = logins.map(|login| thread::spawn(move || login.shutdown()));
    for end in ends {
        end.join().unwrap().unwrap();
    }
}

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(800);
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps the others out, and begins once their threads have gone.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Starts the process's ticker from here: until it has named itself, a thread has the name of the one that started it.
    drop(SystemClock.jumps());
    eventually("the threads of the test before end", || threads() == 0);
    guard
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = SystemClock.now() + PATIENCE;
    while !holds() {
        assert!(SystemClock.now() < deadline, "not so in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn keepers_threads() -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    // One that ends meanwhile has no name.
    tasks
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "leasehold\n"))
        .collect()
}

fn threads() -> usize {
    keepers_threads().len()
}

/// How often the only thread went to sleep.
fn switches() -> u64 {
    let status = fs::read_to_string(keepers_threads()[0].join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Lends what cannot be renewed, so that it is replaced instead.
#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ttl: Duration,
    down: Option<ErrorKind>,
    slow: Duration,
    /// Blocks the thread for so long, which no provider should.
    stuck: Duration,
    panics: Option<&'static str>,
    requests: Vec<&'static str>,
    live: Vec<String>,
    issued: u64,
    /// Whether there is another to be had, which shows.
    another: bool,
}

impl Server {
    fn lending(ttl: Duration) -> Self {
        Self(Arc::new(Mutex::new(State { ttl, ..State::default() })))
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
    }

    fn live(&self) -> Vec<String> {
        self.state().live.clone()
    }

    fn count(&self, what: &str) -> usize {
        self.state().requests.iter().filter(|request| **request == what).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn enter(&self, what: &'static str) -> Result<()> {
        let (down, slow, stuck, panics) = {
            let mut state = self.state();
            state.requests.push(what);
            (state.down, state.slow, state.stuck, state.panics)
        };
        assert!(panics != Some(what), "scripted: {what} panics");
        thread::sleep(stuck);
        sleep_until(&SystemClock, SystemClock.now() + slow).await;
        down.map_or(Ok(()), |kind| Err(Error::new(kind, Party::Vault, format!("scripted: {kind}"))))
    }
}

#[async_trait]
impl Provider for Server {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        self.enter("issue").await?;
        let mut state = self.state();
        state.another = false;
        state.issued += 1;
        let name = format!("user-{}", state.issued);
        state.live.push(name.clone());
        let lease = Lease::new(format!("lease/{name}"), state.ttl, false);
        Ok(Grant::new(Credentials::new(name, "password".to_owned()), lease))
    }

    async fn renew(&self, _: &Record<Credentials>) -> Result<Renewed> {
        self.enter("renew").await?;
        Err(Error::new(ErrorKind::NotRenewable, Party::Vault, "scripted: not renewable"))
    }

    async fn revoke(&self, of: &Record<Credentials>) -> Result<Revoked> {
        self.enter("revoke").await?;
        self.state().live.retain(|name| name != of.secret().username());
        Ok(Revoked::Done)
    }

    async fn changed(&self, _: &Record<Credentials>) {
        while !self.state().another {
            sleep_until(&SystemClock, SystemClock.now() + Duration::from_millis(500)).await;
        }
    }

    fn name(&self) -> String {
        assert!(self.state().panics != Some("name"), "scripted: name panics");
        "scripted".to_owned()
    }
}

#[derive(Clone, Default)]
struct Pool {
    adopted: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Rotate for Pool {
    async fn adopt(&self, next: &Arc<Issued<Credentials>>) -> Result<()> {
        let (adopted, name) = (Arc::clone(&self.adopted), next.secret().username().to_owned());
        // As an adapter of a synchronous pool opens its connection.
        let opened = tokio::task::spawn_blocking(move || adopted.lock().unwrap().push(name)).await;
        opened.map_err(|error| Error::new(ErrorKind::DatabaseUnavailable, Party::Database, error.to_string()))
    }

    async fn retire(&self, _: &Arc<Issued<Credentials>>) -> Retired {
        Retired { remaining: Some(0) }
    }
}
