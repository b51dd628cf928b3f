//! A paced load that waits for nobody.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

/// Queries started at a fixed rate, whether or not the ones before have been answered, each measured from when it was
/// due: a pool that stalls cannot hide it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use leasehold_testbed::load::Load;
///
/// let load = Load::start(1_000, || async { Ok::<(), String>(()) });
/// load.wait_for(10).await;
/// let measured = load.stop().await;
/// assert!(measured.queries >= 10 && measured.failed == 0);
/// # }
/// ```
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    progress: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    started: Instant,
}

/// What a load measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// How long it ran.
    pub ran_for: Duration,
    /// Queries answered, the failed ones included.
    pub queries: u64,
    /// Queries that failed.
    pub failed: u64,
    /// The first failures, in words.
    pub failures: Vec<String>,
    /// Half of the queries took no longer.
    pub p50: Duration,
    /// 99 % of the queries took no longer.
    pub p99: Duration,
    /// 99.9 % of the queries took no longer.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
}

struct Tally {
    all: Histogram<u64>,
    /// Since it was last looked at.
    recent: Histogram<u64>,
    failed: u64,
    failures: Vec<String>,
}

impl Load {
    /// Starts `rate` queries per second, at least one.
    pub fn start<Q, F, E>(rate: u32, query: Q) -> Self
    where
        Q: Fn() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let tally = Arc::new(Mutex::new(Tally::new()));
        let (stop, stopped) = watch::channel(false);
        let (report, progress) = watch::channel(0);
        let task = tokio::spawn(generate(rate.max(1), query, Arc::clone(&tally), report, stopped));
        Self { tally, progress, stop, task, started: Instant::now() }
    }

    /// The numbers so far; the percentiles are those since the last glance.
    pub fn glance(&self) -> Measured {
        let mut tally = lock(&self.tally);
        let measured = tally.measured(&tally.recent, self.started.elapsed());
        tally.recent.reset();
        measured
    }

    /// Waits until so many more queries have been answered.
    pub async fn wait_for(&self, more: u64) {
        let mut progress = self.progress.clone();
        let target = *progress.borrow() + more;
        // Fails only if the load has ended.
        let _ = progress.wait_for(|answered| *answered >= target).await;
    }

    /// Stops, waits for the queries under way, and says what was measured.
    pub async fn stop(self) -> Measured {
        let ran_for = self.started.elapsed();
        self.stop.send_replace(true);
        let _ = self.task.await;
        let tally = lock(&self.tally);
        tally.measured(&tally.all, ran_for)
    }
}

async fn generate<Q, F, E>(
    rate: u32,
    query: Q,
    tally: Arc<Mutex<Tally>>,
    report: watch::Sender<u64>,
    mut stopped: watch::Receiver<bool>,
) where
    Q: Fn() -> F + Send,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let mut tick = interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    loop {
        let due = tokio::select! {
            due = tick.tick() => due,
            _ = stopped.changed() => break,
        };
        let (answer, tally, report) = (query(), Arc::clone(&tally), report.clone());
        under_way.spawn(async move {
            let failure = answer.await.err().map(|error| error.to_string());
            lock(&tally).record(due.elapsed(), failure);
            report.send_modify(|answered| *answered += 1);
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

impl Tally {
    fn new() -> Self {
        Self { all: histogram(), recent: histogram(), failed: 0, failures: Vec::new() }
    }

    fn record(&mut self, took: Duration, failure: Option<String>) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.all.saturating_record(micros);
        self.recent.saturating_record(micros);
        if let Some(failure) = failure {
            self.failed += 1;
            if self.failures.len() < FAILURES_KEPT {
                self.failures.push(failure);
            }
        }
    }

    fn measured(&self, over: &Histogram<u64>, ran_for: Duration) -> Measured {
        let at = |quantile| Duration::from_micros(over.value_at_quantile(quantile));
        Measured {
            ran_for,
            queries: self.all.len(),
            failed: self.failed,
            failures: self.failures.clone(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(over.max()),
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally")
            .field("queries", &self.all.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// From a microsecond to ten minutes, to three digits.
fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants that it accepts")]
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("valid bounds")
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

const FAILURES_KEPT: usize = 10;
