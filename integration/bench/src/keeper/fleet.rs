//! Many processes that start in the same second, on paused time: how evenly does the server hear from them?

use std::{fmt::Write as _, ops::Range, sync::Arc, time::Duration};

use anyhow::Result;
use leasehold_core::{
    Credentials, Token,
    clock::{Clock, Moment, TestClock, sleep_until},
};
use leasehold_renewal::{Builder, Keeper};
use tokio::{task::JoinSet, time::Instant};

use super::scripted::{Listen, Login, Request, Role, Server, Terms};
use crate::buckets::{PerSecond, Spread};

/// Whether the server renews the leases of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leases {
    Renewable,
    NotRenewable,
}

/// Returns how many times the mean the server hears in its busiest minute, once everybody has started.
pub(crate) fn simulate(clients: usize, leases: Leases) -> Result<f64> {
    fastrand::seed(SEED);
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let log = runtime.block_on(run(clients, leases))?;
    eprintln!("a fleet of {clients}, {leases:?}, for {SIMULATED:?} of its time: {:.1?}", began.elapsed());
    eprint!("{}", profile(&log));
    Ok(log.all().spread(AFTER_START..SECONDS, MINUTE).ratio())
}

async fn run(clients: usize, leases: Leases) -> Result<Arc<Log>> {
    let clock = Arc::new(TestClock::new());
    let log = Arc::new(Log::new(clock.clone()));
    let server = Arc::new(Server { clock: clock.clone(), listener: log.clone() });
    let mut starting = JoinSet::new();
    for client in 0..clients {
        let offset = Duration::from_secs(1).mul_f64(client as f64 / clients as f64);
        starting.spawn(start(server.clone(), leases, log.zero + offset));
    }
    let fleet = starting.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    sleep_until(&*clock, log.zero + SIMULATED).await;
    drop(fleet);
    Ok(log)
}

/// One process: it logs in, and obtains credentials under its token.
async fn start(
    server: Arc<Server>,
    leases: Leases,
    at: Moment,
) -> Result<(Keeper<Token>, Keeper<Credentials>)> {
    sleep_until(&*server.clock, at).await;
    let builder = Builder::new().clock(server.clock.clone());
    let token = builder.clone().start(Login { server: server.clone(), terms: TOKEN }).await?;
    let terms = Terms { renewable: leases == Leases::Renewable, ..LEASE };
    let role = Role { server, terms, token: token.current() };
    let login = builder.start(role).await?;
    Ok((token, login))
}

/// What the server hears, second by second.
struct Log {
    clock: Arc<TestClock>,
    zero: Moment,
    issues: PerSecond,
    renewals: PerSecond,
    revocations: PerSecond,
}

impl Log {
    fn new(clock: Arc<TestClock>) -> Self {
        let zero = clock.now();
        let [issues, renewals, revocations] = std::array::from_fn(|_| PerSecond::new(SECONDS));
        Self { clock, zero, issues, renewals, revocations }
    }

    fn all(&self) -> PerSecond {
        let all = PerSecond::new(SECONDS);
        [&self.issues, &self.renewals, &self.revocations].into_iter().for_each(|kind| all.add(kind));
        all
    }
}

impl Listen for Log {
    fn heard(&self, request: Request) {
        let second = self.zero.until(self.clock.now()).as_secs();
        let kind = match request {
            Request::Issue => &self.issues,
            Request::Renew => &self.renewals,
            Request::Revoke => &self.revocations,
        };
        kind.count(usize::try_from(second).unwrap_or(usize::MAX));
    }
}

/// The numbers behind the number. The mean is always that of everything; only the peak is of the part.
fn profile(log: &Log) -> String {
    let all = log.all();
    let mean = all.spread(AFTER_START..SECONDS, MINUTE).mean;
    let even = as_many_at_random(all.total(AFTER_START..SECONDS));
    let mut text = format!(
        "  {mean:.2} requests per second on average; peaks, and how many times that average they are:\n"
    );
    let mut row = |what: &str, counted: &PerSecond, seconds: Range<usize>, width: usize| {
        let Spread { peak, peak_at, .. } = counted.spread(seconds, width);
        let (at, ratio) = (peak_at as f64 / HOUR as f64, peak / mean);
        let _ = writeln!(text, "  {what:<38} in {width:>2} s: {peak:>6.2}/s at {at:>5.2} h, {ratio:>5.2}");
    };
    for width in [MINUTE, 10, 1] {
        row("everything", &all, AFTER_START..SECONDS, width);
        row("as many at random moments", &even, AFTER_START..SECONDS, width);
    }
    row("renewals alone", &log.renewals, AFTER_START..SECONDS, MINUTE);
    row("first waves: the first four hours", &all, AFTER_START..4 * HOUR, MINUTE);
    row("steady: 12 h until max TTL nears", &all, 12 * HOUR..23 * HOUR, MINUTE);
    row("around the leases' max TTL: 23 to 25 h", &all, 23 * HOUR..25 * HOUR, MINUTE);
    row("steady again: from 25 h on", &all, 25 * HOUR..SECONDS, MINUTE);
    text
}

/// What perfect spreading looks like: it has a peak too, and the narrower the buckets the higher.
fn as_many_at_random(requests: u64) -> PerSecond {
    let seconds = PerSecond::new(SECONDS);
    let mut generator = fastrand::Rng::with_seed(SEED);
    (0..requests).for_each(|_| seconds.count(generator.usize(AFTER_START..SECONDS)));
    seconds
}

const SEED: u64 = 10_000;
const HOUR: usize = 3600;
const MINUTE: usize = 60;
/// A day until the leases' max TTL, and half a day after it.
const SECONDS: usize = 36 * HOUR;
const SIMULATED: Duration = Duration::from_secs(SECONDS as u64);
/// Everybody starts in the first second: that burst is whoever started them all at once.
const AFTER_START: usize = MINUTE;
/// The token of a Kubernetes login: an hour, renewed until Vault's own maximum.
const TOKEN: Terms =
    Terms { ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(32 * 86_400), renewable: true };
/// The role of the tutorials: `default_ttl=1h max_ttl=24h`.
const LEASE: Terms =
    Terms { ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(86_400), renewable: true };
