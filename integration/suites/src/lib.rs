//! What the suites share: a service as a user would write it, on the testbed's servers.

mod tally;

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use leasehold_auth::{Kubernetes, Login};
use leasehold_core::{Credentials, Event, EventKind, Status, Token, Vault};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_testbed::{
    Config, Recorder, Testbed,
    load::{Load, Measured},
};
use leasehold_vault::Client;
use sqlx::PgPool;
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::{Instant, interval},
};

pub use tally::{CREDENTIALS, TOKEN, Tally, one_attempt_per_step};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// A service with a pool of four, whose requests to OpenBao are recorded.
#[derive(Debug)]
pub struct Service {
    /// The servers.
    pub testbed: Testbed,
    /// What the service asked OpenBao.
    pub recorder: Recorder,
    /// Its token.
    pub token: Keeper<Token>,
    /// Its credentials.
    pub login: Keeper<Credentials>,
    /// Its pool.
    pub pool: PgPool,
}

impl Service {
    /// Starts the servers, and the service on them, logged in with the testbed's service account.
    ///
    /// # Errors
    /// Whatever kept it from starting.
    #[expect(clippy::print_stderr, reason = "what takes a while is for whoever waits for the tests")]
    pub async fn start(config: Config) -> Result<Self> {
        let testbed = Testbed::start(Config { report: |line| eprintln!("{line}"), ..config }).await?;
        let recorder = testbed.recorder()?;
        let vault = vault(&recorder)?;
        let login = kubernetes(&testbed, &vault);
        Self::start_with(testbed, recorder, vault, login).await
    }

    /// As [`start`](Self::start), with servers and a login of one's own.
    ///
    /// # Errors
    /// Whatever kept it from starting.
    pub async fn start_with(
        testbed: Testbed,
        recorder: Recorder,
        vault: Arc<dyn Vault>,
        login: Login,
    ) -> Result<Self> {
        let token = Keeper::start(login).await?;
        let login = Keeper::start(DatabaseRole::new(vault, token.current(), testbed.db_role())).await?;
        let pool = pool(&testbed).connect(login.current()).await?;
        Ok(Self { testbed, recorder, token, login, pool })
    }

    /// Starts `rate` queries per second on the table that the role may read.
    pub fn load(&self, rate: u32) -> Load {
        load(&self.pool, rate)
    }

    /// Whether both keepers are content and the pool answers a query on what the role may read.
    pub async fn is_well(&self) -> bool {
        let content = self.token.health().status == Status::Healthy
            && self.login.health().status == Status::Healthy
            && self.login.health().is_usable();
        let query = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM measurements");
        content && query.fetch_one(&self.pool).await.is_ok()
    }

    /// Says how many queries failed and what was asked of OpenBao, and makes sure that it was `rate` requests per second
    /// at most, beside a few at the ends.
    #[expect(clippy::print_stdout, reason = "what a test measured is for whoever reads its output")]
    pub fn account(&self, what: &str, measured: &Measured, rate: f64) -> Tally {
        let tally = Tally::of(&self.recorder.requests());
        println!("{what}: {} of {} queries failed; {tally}", measured.failed, measured.queries);
        let most = measured.ran_for.as_secs_f64() * rate + 12.0;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let total = tally.total() as f64;
        assert!(total <= most, "{what}: {tally} in {:?}, at most {most}", measured.ran_for);
        tally
    }

    /// Shuts everything down, leaf first, and makes sure that nothing is left on the servers.
    ///
    /// # Errors
    /// Whatever could not be shut down, or was left.
    pub async fn stop(self) -> Result<Testbed> {
        self.pool.close().await;
        self.login.shutdown().await?;
        self.token.shutdown().await?;
        nothing_left(&self.testbed).await?;
        Ok(self.testbed)
    }
}

/// A client of the recorder.
///
/// # Errors
/// If the client cannot be built.
pub fn vault(recorder: &Recorder) -> Result<Arc<dyn Vault>> {
    Ok(Arc::new(Client::builder().address(recorder.address()).timeout(Duration::from_secs(5)).build()?))
}

/// The login with the testbed's service account.
pub fn kubernetes(testbed: &Testbed, vault: &Arc<dyn Vault>) -> Login {
    let login = Kubernetes::new(Arc::clone(vault), testbed.role()).mount(testbed.kubernetes_mount());
    Box::new(login.jwt_path(testbed.service_account().token_path()))
}

/// A pool of four that are all open from the start, so that no query needs a handshake.
pub fn pool(testbed: &Testbed) -> leasehold_sqlx::Postgres {
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host(testbed.postgres().host())
        .port(testbed.postgres().port())
        .database(testbed.postgres().database());
    leasehold_sqlx::Postgres::new(options).min_connections(4).max_connections(4)
}

/// Queries on the table that the role may read.
pub fn load(pool: &PgPool, rate: u32) -> Load {
    let pool = pool.clone();
    Load::start(rate, move || {
        let pool = pool.clone();
        async move {
            let row: Result<i64, _> =
                sqlx::query_scalar("SELECT count(*) FROM measurements").fetch_one(&pool).await;
            row.map(drop)
        }
    })
}

/// Waits until `condition` holds.
///
/// # Errors
/// If it does not within `bound`; the error says what was waited for.
pub async fn wait_until<F: Future<Output = bool>>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<Duration> {
    let began = Instant::now();
    let mut look = interval(Duration::from_millis(50));
    loop {
        look.tick().await;
        if condition().await {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < bound, "waited {bound:?} in vain: {what}");
    }
}

/// Lets time pass, for a fault that must last.
pub async fn let_pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

/// Makes sure that no lease, token or user is left. The server queues revocations, so it looks for a while.
///
/// # Errors
/// If something is left after 10 s.
pub async fn nothing_left(testbed: &Testbed) -> Result<()> {
    wait_until("no lease, token or user is left", Duration::from_secs(10), || async {
        let leases = testbed.openbao().leases().await.map_or(1, |leases| leases.len());
        let tokens = testbed.openbao().tokens().await.map_or(1, |tokens| tokens.len());
        let users = testbed.postgres().dynamic_users().await.map_or(1, |users| users.len());
        leases + tokens + users == 0
    })
    .await
    .map(drop)
}

/// The events so far.
pub fn events(receiver: &mut Receiver<Event>) -> Vec<EventKind> {
    let mut events = Vec::new();
    loop {
        match receiver.try_recv() {
            Ok(event) => events.push(event.kind),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return events,
        }
    }
}
