//! A user that exists already, whose password OpenBao replaces at the end of each period.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use leasehold_core::{
    Answer, Body, Credentials, Error, ErrorKind, Event, EventKind, ExposeSecret, Grant, Lease, Party, Token,
    Vault, async_trait,
    clock::{Clock, Moment, TestClock},
    publish,
};
use leasehold_renewal::{Builder, Keeper};
use leasehold_secrets::StaticRole;
use leasehold_suites::{events, kubernetes, let_pass, load, nothing_left, pool, vault, wait_until};
use leasehold_testbed::{Config, Product, Recorder, Testbed, load::Load};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, PgPool, postgres::PgConnectOptions};
use tokio::{sync::broadcast::Receiver, time::Instant};

const RATE: u32 = 40;

/// A service whose pool logs in as the static role's user.
struct Service {
    testbed: Testbed,
    recorder: Recorder,
    token: Keeper<Token>,
    login: Keeper<Credentials>,
    pool: PgPool,
}

impl Service {
    async fn start(period: u64) -> Self {
        Self::rotated(json!({ "rotation_period": period })).await
    }

    async fn rotated(when: Value) -> Self {
        let config = Config {
            token_ttl: Duration::from_secs(600),
            token_max_ttl: Duration::from_secs(3600),
            ..Config::default()
        };
        let testbed = Testbed::start(config).await.unwrap();
        testbed.make_role_static(when).await.unwrap();
        let recorder = testbed.recorder().unwrap();
        let vault = vault(&recorder).unwrap();
        let token = Keeper::start(kubernetes(&testbed, &vault)).await.unwrap();
        let role = StaticRole::new(vault, token.current(), testbed.db_role());
        let login = Keeper::start(role).await.unwrap();
        let pool = pool(&testbed).connect(login.current()).await.unwrap();
        Self { testbed, recorder, token, login, pool }
    }

    fn generation(&self) -> u64 {
        self.login.current().get().unwrap().generation().number()
    }

    /// The processes behind the user's sessions.
    async fn sessions(&self) -> BTreeSet<String> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{USER}'");
        self.testbed.postgres().query(&sql).await.unwrap().into_iter().flatten().flatten().collect()
    }

    /// Whether the password in use opens a connection of its own.
    async fn opens(&self) -> bool {
        let issued = self.login.current().get().unwrap();
        self.takes(issued.secret().password().expose_secret()).await
    }

    async fn rotate(&self) {
        self.testbed.rotate_static_role().await.unwrap();
    }

    /// Waits until the keeper has the password that OpenBao hands out, and the pool opens connections with it.
    async fn followed(&self) -> Duration {
        wait_until("the password that is handed out", Duration::from_secs(15), || async {
            let handed_out = self.testbed.static_password().await.unwrap();
            let issued = self.login.current().get().unwrap();
            issued.secret().password().expose_secret() == handed_out && ask_once(&self.pool).await.is_ok()
        })
        .await
        .unwrap()
    }

    /// Whether this password opens a connection.
    async fn takes(&self, password: &str) -> bool {
        let postgres = self.testbed.postgres();
        let options = PgConnectOptions::new_without_pgpass().host(postgres.host()).port(postgres.port());
        options.database(postgres.database()).username(USER).password(password).connect().await.is_ok()
    }

    /// Ends one of the pool's sessions, as its lifetime would.
    async fn end_one_session(&self) {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}' LIMIT 1"
        );
        self.testbed.postgres().query(&sql).await.unwrap();
    }

    /// Queries each of which opens a connection of its own.
    fn churn(&self) -> Load {
        let pool = self.pool.clone();
        Load::start(HANDSHAKES, move || {
            let pool = pool.clone();
            async move { ask_once(&pool).await }
        })
    }

    fn reads(&self) -> usize {
        self.recorder.count("GET", "/v1/database/static-creds/")
    }

    fn load(&self) -> Load {
        load(&self.pool, RATE)
    }

    async fn stop(self) {
        let requests = self.recorder.requests();
        self.pool.close().await;
        self.login.shutdown().await.unwrap();
        assert_eq!(self.recorder.requests().len(), requests.len(), "there is nothing to revoke");
        self.token.shutdown().await.unwrap();
        nothing_left(&self.testbed).await.unwrap();
    }
}

fn failures(receiver: &mut Receiver<Event>) -> Vec<EventKind> {
    let failure = |event: &EventKind| matches!(event, EventKind::Failed { .. } | EventKind::Rejected { .. });
    events(receiver).into_iter().filter(failure).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rotations_of_the_password_close_no_session_and_fail_no_query() {
    let service = Service::start(6).await;
    let mut happened = service.login.events();
    let load = service.load();
    load.wait_for(20).await;
    let (sessions, first) = (service.sessions().await, service.generation());
    assert!(sessions.len() >= 4, "{sessions:?}");
    service.recorder.clear();
    let took = wait_until("two rotations", Duration::from_secs(30), || async {
        service.generation() >= first + 2 && service.opens().await
    })
    .await
    .unwrap();
    let reads = service.reads();
    load.wait_for(u64::from(RATE)).await;
    let left = service.sessions().await;
    let lost: Vec<_> = sessions.difference(&left).collect();
    // The canary's session is the one that proved the password: it is another after each rotation.
    assert!(lost.len() <= 1, "{lost:?} of {sessions:?} were closed; now {left:?}");
    let measured = load.stop().await;
    println!(
        "two rotations in {took:.1?}: {} of {} queries failed, the slowest took {:.1?}; {reads} reads",
        measured.failed, measured.queries, measured.max
    );
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    assert!(reads <= 10 + 3 * usize::try_from(took.as_secs()).unwrap(), "{reads} in {took:?}");
    let failed = failures(&mut happened);
    assert!(failed.is_empty(), "{failed:?}");
    service.end_one_session().await;
    wait_until("the pool opens a connection with the new password", Duration::from_secs(4), || async {
        sqlx::query("SELECT 1").execute(&service.pool).await.is_ok() && service.sessions().await.len() >= 4
    })
    .await
    .unwrap();
    service.stop().await;
}

/// Nobody tells, and open sessions do not care: it is noticed by the first handshake that is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_an_operator_is_noticed_by_the_first_new_connection() {
    let service = Service::start(3600).await;
    let load = service.load();
    load.wait_for(20).await;
    let (first, mut happened) = (service.generation(), service.login.events());
    service.recorder.clear();
    service.rotate().await;
    load.wait_for(u64::from(RATE)).await;
    assert_eq!(load.glance().failed, 0, "open sessions go on");
    assert!(!service.opens().await, "the password in use is the old one");
    service.end_one_session().await;
    let took = wait_until("the new password", Duration::from_secs(5), || async {
        service.generation() > first && service.opens().await && service.sessions().await.len() >= 4
    })
    .await
    .unwrap();
    let (failed, reads) = (load.glance().failed, service.reads());
    load.wait_for(u64::from(RATE) * 2).await;
    let measured = load.stop().await;
    println!(
        "rotated by an operator: {failed} of {} queries failed; recovered after {took:.1?}; {reads} reads",
        measured.queries
    );
    assert_eq!(measured.failed, failed, "nothing fails once it has recovered: {:?}", measured.failures);
    assert!(failed <= 8, "at most what was under way on the session that ended: {:?}", measured.failures);
    assert!((1..=3).contains(&reads), "{reads}");
    let happened = events(&mut happened);
    assert!(happened.iter().any(|event| matches!(event, EventKind::Rejected { .. })), "{happened:?}");
    assert_eq!(service.generation(), first + 1);
    service.stop().await;
}

/// sqlx hands a refused handshake to whoever waits for it, so some fail between the moment in which the database takes the
/// new password and the one in which the pool has it. This is how many, where each query opens a connection.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_handshakes_during_a_rotation_few_fail_and_of_the_sessions_none() {
    let service = Service::start(5).await;
    let other = pool(&service.testbed).connect(service.login.current()).await.unwrap();
    let (mut happened, quiet, churn) = (service.login.events(), load(&other, RATE), service.churn());
    churn.wait_for(10).await;
    let (mut before, mut failed) = (churn.glance().failed, Vec::new());
    for _ in 0..3 {
        let generation = service.generation();
        wait_until("a rotation", Duration::from_secs(15), || async { service.generation() > generation })
            .await
            .unwrap();
        churn.wait_for(u64::from(HANDSHAKES)).await;
        let now = churn.glance().failed;
        failed.push(now - std::mem::replace(&mut before, now));
    }
    for _ in 0..3 {
        service.rotate().await;
        let took = service.followed().await;
        churn.wait_for(u64::from(HANDSHAKES)).await;
        let now = churn.glance().failed;
        failed.push(now - std::mem::replace(&mut before, now));
        println!("rotated by an operator: followed after {took:.0?}");
    }
    let (quiet, churn) = (quiet.stop().await, churn.stop().await);
    println!(
        "of {HANDSHAKES} handshakes a second failed, by rotation, thrice by period and thrice by an operator: {failed:?}; \
         of {} queries on open sessions {}",
        quiet.queries, quiet.failed
    );
    assert_eq!(quiet.failed, 0, "{:?}", quiet.failures);
    let refused = |failure: &String| failure.contains("password authentication failed");
    assert!(churn.failures.iter().all(refused), "{:?}", churn.failures);
    assert!(failed.iter().all(|failed| *failed <= MOST_REFUSED), "{failed:?}: {:?}", churn.failures);
    let closed = |event: &EventKind| {
        matches!(event, EventKind::Retiring { .. } | EventKind::Terminated { .. })
            || matches!(event, EventKind::Retired { remaining } if *remaining != Some(0))
    };
    let happened = events(&mut happened);
    assert!(!happened.iter().any(closed), "{happened:?}");
    other.close().await;
    service.stop().await;
}

/// What the rest relies on: the database takes a new password a moment before it is handed out, and not seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_handed_out_a_moment_after_the_database_takes_it() {
    let service = Service::start(3600).await;
    let (mut lags, mut unanswered) = (Vec::new(), 0);
    for _ in 0..20 {
        let old = service.testbed.static_password().await.unwrap();
        let refused = async {
            while service.takes(&old).await {}
            Instant::now()
        };
        let handed_out = async {
            loop {
                match service.testbed.static_password().await {
                    Ok(password) if password != old => return Instant::now(),
                    Ok(_) => {}
                    Err(_) => unanswered += 1,
                }
            }
        };
        let ((), refused, handed_out) = tokio::join!(service.rotate(), refused, handed_out);
        let lag = handed_out.saturating_duration_since(refused).as_secs_f64()
            - refused.saturating_duration_since(handed_out).as_secs_f64();
        lags.push(lag);
    }
    lags.sort_by(f64::total_cmp);
    println!("handed out so many seconds after a refusal: {lags:.4?}; {unanswered} reads were answered 500");
    assert!(lags[lags.len() - 1] < 0.5, "{lags:?}");
    service.login.shutdown().await.unwrap();
}

/// OpenBao knows periods only, so what a schedule would do to us is scripted below. Where this one is accepted, it can be
/// followed for real.
#[tokio::test(flavor = "multi_thread")]
async fn openbao_refuses_a_schedule_instead_of_a_period() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let schedule = json!({ "rotation_schedule": "* * * * *", "rotation_window": 3600 });
    let answer = testbed.make_role_static(schedule).await;
    match testbed.openbao().product() {
        Product::OpenBao => {
            let refusal = answer.unwrap_err().to_string();
            assert!(refusal.contains("rotation_period is required"), "{refusal}");
        }
        _ => assert!(answer.is_ok(), "{answer:?}"),
    }
}

async fn ask_once(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let answer = sqlx::query("SELECT count(*) FROM measurements").execute(&mut *connection).await;
    connection.close().await?;
    answer.map(drop)
}

// ------------------------------------------------------------------------------------------------- without a server

/// A role that is rotated `late` after each period; the old password is served until then.
struct Rotating {
    clock: Arc<TestClock>,
    begin: Moment,
    period: Duration,
    late: Duration,
    ttl_begins_anew: bool,
    /// When the role was read.
    reads: Mutex<Vec<Moment>>,
    /// How often an operator has rotated it.
    by_hand: Mutex<u64>,
    down: Mutex<bool>,
}

impl Rotating {
    fn new(period: u64, late: u64) -> Self {
        let clock = Arc::new(TestClock::new());
        Self {
            begin: clock.now(),
            clock,
            period: Duration::from_secs(period),
            late: Duration::from_secs(late),
            ttl_begins_anew: false,
            reads: Mutex::default(),
            by_hand: Mutex::default(),
            down: Mutex::default(),
        }
    }

    fn rotations(&self) -> u64 {
        let passed = self.begin.until(self.clock.now());
        let whole = u64::try_from(passed.as_nanos() / self.period.as_nanos()).unwrap();
        let since = passed.saturating_sub(self.period * u32::try_from(whole).unwrap());
        if since < self.late { whole.saturating_sub(1) } else { whole }
    }

    /// How long until the end that the server tells.
    fn ttl(&self) -> u64 {
        let passed = self.begin.until(self.clock.now());
        let next = match self.ttl_begins_anew {
            true => u64::try_from(passed.as_nanos() / self.period.as_nanos()).unwrap() + 1,
            false => self.rotations() + 1,
        };
        let end = self.period * u32::try_from(next).unwrap();
        end.saturating_sub(passed).as_secs_f64().round() as u64
    }
}

#[async_trait]
impl Vault for Rotating {
    async fn login(&self, _: &str, _: Body) -> leasehold_core::Result<Answer> {
        unreachable!("a secret does not log in")
    }

    async fn read(&self, _: &Token, _: &str) -> leasehold_core::Result<Answer> {
        self.reads.lock().unwrap().push(self.clock.now());
        if *self.down.lock().unwrap() {
            return Err(Error::new(ErrorKind::Unreachable, Party::Vault, "scripted"));
        }
        let rotated = self.rotations() + *self.by_hand.lock().unwrap();
        let answer = json!({
            "username": USER,
            "password": format!("{rotated}"),
            "last_vault_rotation": format!("{rotated}"),
            "ttl": self.ttl(),
        });
        let Value::Object(data) = answer else { unreachable!() };
        Ok(Answer::new(Lease::endless(), data, None, Vec::new()))
    }

    async fn write(&self, _: &Token, _: &str, _: Body) -> leasehold_core::Result<Answer> {
        unreachable!("there is nothing to renew or revoke")
    }
}

async fn keeper(server: &Arc<Rotating>) -> Keeper<Credentials> {
    let mut tokens = publish::channel("token", server.clock.clone());
    tokens.publisher.publish(Grant::new(Token::new("root".to_owned()), Lease::endless()), server.clock.now());
    let role = StaticRole::new(server.clone(), tokens.current, "pipeline");
    Builder::new().clock(server.clock.clone()).start(role).await.unwrap()
}

fn password(keeper: &Keeper<Credentials>) -> String {
    keeper.current().get().unwrap().secret().password().expose_secret().to_owned()
}

/// How long the old password stayed in use after each rotation, and how often the role was read.
async fn follow(server: &Arc<Rotating>, rotations: u64) -> (Vec<Duration>, usize) {
    let keeper = keeper(server).await;
    let mut happened = keeper.events();
    let mut behind = Vec::new();
    for rotation in 1..=rotations {
        let at = server.begin + server.period * u32::try_from(rotation).unwrap() + server.late;
        let wait = server.clock.now().until(at);
        let_pass(wait).await;
        while password(&keeper) != rotation.to_string() {
            assert!(keeper.health().is_usable(), "the old one is what there is");
            let_pass(Duration::from_millis(10)).await;
        }
        behind.push(at.until(server.clock.now()));
        // What looks on must not fall behind by as much as it sees.
        assert!(behind.iter().all(|behind| *behind < Duration::from_secs(30)), "{behind:?}");
    }
    let failed = failures(&mut happened);
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(keeper.current().get().unwrap().generation().number(), rotations + 1);
    let reads = server.reads.lock().unwrap().len();
    (behind, reads)
}

fn closest(reads: &[Moment]) -> Duration {
    reads.windows(2).map(|pair| pair[0].until(pair[1])).min().unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_rotation_is_followed_within_two_seconds_and_for_few_reads() {
    for (period, late) in [(5, 0), (6, 4), (60, 5), (3600, 5), (86_400, 5), (2_592_000, 5)] {
        for ttl_begins_anew in [false, true] {
            let server = Arc::new(Rotating { ttl_begins_anew, ..Rotating::new(period, late) });
            let (behind, reads) = follow(&server, 5).await;
            let most = *behind.iter().max().unwrap();
            println!(
                "{period} s, {late} s late, begins anew: {ttl_begins_anew}: {most:?} behind, {reads} reads in 5 rotations"
            );
            assert!(most < Duration::from_secs(2), "{period} {late} {ttl_begins_anew}: {behind:?}");
            assert!(reads < 5 * 35, "{period} {late} {ttl_begins_anew}: {reads} reads in 5 rotations");
            assert!(closest(&server.reads.lock().unwrap()) >= Duration::from_millis(250));
        }
    }
}

/// As with a `rotation_schedule`: the first rotation comes when the schedule says so, not a period after the password was
/// set, and the server tells a TTL to it.
#[tokio::test(start_paused = true)]
async fn a_schedule_is_followed_whatever_is_left_of_it_at_the_start() {
    for started in [1, 1800, 3599] {
        let server = Arc::new(Rotating::new(3600, 2));
        let_pass(Duration::from_secs(started)).await;
        let (behind, reads) = follow(&server, 2).await;
        println!("{started} s into the hour: {behind:?} behind, {reads} reads");
        assert!(behind.iter().all(|behind| *behind < Duration::from_secs(2)), "{behind:?}");
        assert!(reads < 2 * 35, "{reads}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_does_not_come_for_an_hour_costs_few_reads_and_displaces_nothing() {
    let server = Arc::new(Rotating::new(7200, 3600));
    let (behind, reads) = follow(&server, 1).await;
    println!("an hour late: {behind:?} behind, {reads} reads");
    assert!(behind[0] < Duration::from_secs(17), "{behind:?}");
    assert!(reads < 600, "{reads}");
}

#[tokio::test(start_paused = true)]
async fn a_reject_makes_it_read_again_at_once() {
    let server = Arc::new(Rotating::new(86_400, 5));
    let keeper = keeper(&server).await;
    let_pass(Duration::from_secs(600)).await;
    *server.by_hand.lock().unwrap() = 7;
    let_pass(Duration::from_secs(60)).await;
    assert_eq!(password(&keeper), "0", "nobody tells");
    let mut current = keeper.current();
    let rejected_at = server.clock.now();
    current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
    current.changed().await.unwrap();
    assert_eq!(password(&keeper), "7");
    assert!(rejected_at.until(server.clock.now()) < Duration::from_secs(1));
    assert_eq!(server.reads.lock().unwrap().len(), 2);
}

/// A read makes no user, so a new password does not wait for those before it to be forgiven.
#[tokio::test(start_paused = true)]
async fn rotations_by_hand_in_a_row_are_each_read_at_once() {
    let server = Arc::new(Rotating::new(86_400, 5));
    let keeper = keeper(&server).await;
    for rotation in 1..=20 {
        let_pass(Duration::from_secs(3)).await;
        *server.by_hand.lock().unwrap() += 1;
        let (mut current, rejected_at) = (keeper.current(), server.clock.now());
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        current.changed().await.unwrap();
        let took = rejected_at.until(server.clock.now());
        assert!(took < Duration::from_millis(500), "rotation {rotation}: {took:?}");
        assert_eq!(password(&keeper), rotation.to_string());
    }
}

/// What somebody changes out of band is refused until the server replaces it, by plan: the rejects meanwhile postpone nothing.
#[tokio::test(start_paused = true)]
async fn rejects_without_end_do_not_postpone_what_comes_by_plan() {
    let server = Arc::new(Rotating::new(86_400, 2));
    let keeper = keeper(&server).await;
    let due = server.begin + server.period + server.late;
    let current = keeper.current();
    while server.clock.now() < due {
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        let_pass(Duration::from_secs(10)).await;
    }
    let_pass(Duration::from_secs(2)).await;
    assert_eq!(password(&keeper), "1");
    // An operator mends it sooner.
    current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
    let_pass(Duration::from_secs(600)).await;
    *server.by_hand.lock().unwrap() += 1;
    for _ in 0..65 {
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        let_pass(Duration::from_secs(1)).await;
    }
    assert_eq!(password(&keeper), "2");
}

#[tokio::test(start_paused = true)]
async fn rejects_without_end_cost_few_reads_and_no_generation() {
    let server = Arc::new(Rotating::new(86_400, 5));
    let keeper = keeper(&server).await;
    let current = keeper.current();
    for _ in 0..3600 {
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        let_pass(Duration::from_secs(1)).await;
    }
    let reads = server.reads.lock().unwrap().len();
    assert!(reads < 120, "{reads} reads in an hour of one reject each second");
    assert_eq!(current.get().unwrap().generation().number(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_across_the_rotation_displaces_nothing_and_is_over_soon() {
    let server = Arc::new(Rotating::new(600, 2));
    let keeper = keeper(&server).await;
    let_pass(Duration::from_secs(400)).await;
    *server.down.lock().unwrap() = true;
    let_pass(Duration::from_secs(500)).await;
    assert_eq!(password(&keeper), "0");
    *server.down.lock().unwrap() = false;
    let_pass(Duration::from_secs(12)).await;
    assert_eq!(password(&keeper), "1");
}

const USER: &str = "reporter";
/// A second, where a machine that is shared by many must keep up with it.
const HANDSHAKES: u32 = 10;
/// Those of one second; none to three are usual.
const MOST_REFUSED: u64 = 10;
