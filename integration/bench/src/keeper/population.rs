//! Many keepers in one process, on the machine's clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use leasehold_core::{Credentials, Token, clock::SystemClock};
use leasehold_renewal::Keeper;
use tokio::{runtime::Runtime, time::Instant};

use super::scripted::{Listen, Login, Request, Role, Server, Terms};
use crate::process;

/// What keepers cost that have nothing to do.
pub(crate) struct Idle {
    pub(crate) bytes_per_keeper: u64,
    pub(crate) wakeups_per_second: Option<f64>,
}

/// What keepers cost that renew.
pub(crate) struct Busy {
    pub(crate) cpu_us_per_renewal: f64,
}

/// Measures memory, and then what happens while nothing does: leases of 30 days.
pub(crate) fn idle(keepers: usize) -> Result<Idle> {
    let mut population = Population::new(Terms { ttl: MONTH, max_ttl: MONTH * 12, renewable: true })?;
    let (live, resident) = (process::live_bytes(), process::resident_bytes());
    let began = Instant::now();
    population.grow(keepers)?;
    let took = began.elapsed();
    thread::sleep(SETTLE);
    let each = |bytes: u64| bytes / u64::try_from(keepers).unwrap_or(1);
    let live = u64::try_from(process::live_bytes().saturating_sub(live))?;
    eprintln!("{keepers} keepers started in {took:.1?}: {} live bytes each", each(live));
    if let (Some(before), Some(after)) = (resident, process::resident_bytes()) {
        eprintln!("resident memory grew by {} bytes each", each(after.saturating_sub(before)));
    }

    let (requests, cpu, began) = (population.requests(), process::cpu_time(), Instant::now());
    let before = process::context_switches();
    thread::sleep(IDLE);
    let after = process::context_switches();
    let (took, cpu) = (began.elapsed(), process::cpu_time() - cpu);
    ensure!(population.requests() == requests, "a request while there was nothing to do");
    let wakeups = after.zip(before).map(|(after, before)| after.saturating_sub(before));
    eprintln!("idle for {took:.1?}: {wakeups:?} context switches, {cpu:.1?} of CPU time");
    Ok(Idle {
        bytes_per_keeper: each(live),
        wakeups_per_second: wakeups.map(|wakeups| wakeups as f64 / took.as_secs_f64()),
    })
}

/// Measures renewals: leases of seconds.
pub(crate) fn busy(keepers: usize) -> Result<Busy> {
    let mut population = Population::new(Terms { ttl: SHORT, max_ttl: MONTH, renewable: true })?;
    population.grow(keepers)?;
    thread::sleep(SHORT);
    let (requests, cpu, began) = (population.requests(), process::cpu_time(), Instant::now());
    thread::sleep(BUSY);
    let (renewals, cpu) = (population.requests() - requests, process::cpu_time() - cpu);
    let took = began.elapsed();
    ensure!(renewals > 0, "no renewal in {took:?}");
    let rate = renewals as f64 / took.as_secs_f64();
    eprintln!("{renewals} renewals in {took:.1?}, {rate:.0} per second: {cpu:.1?} of CPU time");
    Ok(Busy { cpu_us_per_renewal: cpu.as_secs_f64() * 1e6 / renewals as f64 })
}

/// Credentials keepers under one token, as a service has them that uses many roles.
struct Population {
    runtime: Runtime,
    requests: Arc<Requests>,
    server: Arc<Server>,
    terms: Terms,
    token: Keeper<Token>,
    keepers: Vec<Keeper<Credentials>>,
}

impl Population {
    /// The runtime, a token and one keeper, so that what happens only once has happened.
    fn new(terms: Terms) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let requests = Arc::new(Requests::default());
        let server = Arc::new(Server { clock: Arc::new(SystemClock), listener: requests.clone() });
        let login = Login {
            server: server.clone(),
            terms: Terms { ttl: MONTH, max_ttl: MONTH * 12, renewable: true },
        };
        let token = runtime.block_on(Keeper::start(login))?;
        let mut population = Self { runtime, requests, server, terms, token, keepers: Vec::new() };
        population.grow(1)?;
        Ok(population)
    }

    fn grow(&mut self, by: usize) -> Result<()> {
        let Self { runtime, server, terms, token, keepers, .. } = self;
        keepers.reserve_exact(by);
        runtime.block_on(async {
            for _ in 0..by {
                let role = Role { server: server.clone(), terms: *terms, token: token.current() };
                keepers.push(Keeper::start(role).await?);
            }
            Ok(())
        })
    }

    /// How many there were so far, of every kind.
    fn requests(&self) -> u64 {
        self.requests.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Requests(AtomicU64);

impl Listen for Requests {
    fn heard(&self, _: Request) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// Renewed every 2.5 to 3 s: far from the four requests per second to which a keeper limits itself.
const SHORT: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(12);
const BUSY: Duration = Duration::from_secs(10);
