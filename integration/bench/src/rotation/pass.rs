//! One pool under a paced load, with or without rotations.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use leasehold_testbed::load::{self, Load};
use tokio::time::{Instant, interval_at};

use super::Options;
use crate::{
    keeper_by_hand::KeeperByHand,
    pools::{Adapter, Pool, Way},
    process::Processors,
    server::Server,
};

/// What was measured of it.
pub(super) struct Pass {
    way: Way,
    pub(super) load: load::Measured,
    /// The slowest query that was answered in each [`BUCKET`], if there was any.
    pub(super) slowest: Vec<Option<Duration>>,
    pub(super) rotations: usize,
    /// How busy the machine's processors were meanwhile, with this and with anything else: 1 if none was ever idle.
    pub(super) busy: Option<f64>,
}

/// Builds the pool, warms it up, measures it, and leaves nothing on the server.
pub(super) async fn run(adapter: &dyn Adapter, way: Way, server: &Server, options: &Options) -> Result<Pass> {
    let rotations = match way {
        Way::Plain => Vec::new(),
        Way::CloseAtCheckOut | Way::Leasehold => moments(options.length()).collect(),
    };
    // Made beforehand and dropped afterwards: a server that hashes a password is not what is measured.
    let users = server.make_users(1 + rotations.len()).await?;
    let mut keeper = KeeperByHand::new(users.clone());
    let pool = adapter.build(way, &server.place(), options.tuning(), keeper.current()).await?;
    warm_up(&pool, options).await?;

    let (load, processors) = (start(&pool, options), Processors::so_far());
    let slowest = watch(&load, options.length(), &rotations, || keeper.rotate()).await;
    let load = load.stop().await;
    let busy = Processors::so_far().zip(processors).map(|(now, then)| now.busy_since(then));

    if way == Way::Leasehold {
        let old = &users[..users.len() - 1];
        let end = Instant::now() + RETIREMENT;
        while server.sessions_of(old).await? > 0 {
            if Instant::now() > end {
                bail!("{}: sessions of old users are left {RETIREMENT:?} after the load", adapter.name());
            }
            wait(BUCKET).await;
        }
    }
    pool.close().await;
    server.drop_users(&users).await?;
    Ok(Pass { way, load, slowest, rotations: rotations.len(), busy })
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load::Measured { queries, failed, p50, p99, p999, max, ran_for, .. } = &self.load;
        let way = match self.way {
            Way::Plain => "plain",
            Way::CloseAtCheckOut => "close at check-out",
            Way::Leasehold => "leasehold",
        };
        let rate = *queries as f64 / ran_for.as_secs_f64();
        write!(
            f,
            "{way:<18} {rate:.0}/s, p50 {p50:>8.1?} p99 {p99:>8.1?} p99.9 {p999:>8.1?} max {max:>8.1?}, "
        )?;
        write!(f, "{} rotations, {failed} failed", self.rotations)?;
        if let Some(busy) = self.busy {
            write!(f, ", machine {:.0} % busy", 100.0 * busy)?;
        }
        self.load.failures.first().map_or(Ok(()), |failure| write!(f, ": {failure}"))
    }
}

/// When to rotate: every 5 s, the first time after half of that, so that each has an aftermath.
pub(super) fn moments(length: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(EVERY / 2), |last| Some(*last + EVERY))
        .take_while(move |moment| *moment + EVERY / 2 <= length)
}

/// Opens what there may be, and lets the load run until everything that happens once has happened.
async fn warm_up(pool: &Arc<dyn Pool>, options: &Options) -> Result<()> {
    pool.fill().await?;
    let load = start(pool, options);
    wait(WARM_UP).await;
    load.stop().await;
    Ok(())
}

fn start(pool: &Arc<dyn Pool>, options: &Options) -> Load {
    let pool = Arc::clone(pool);
    Load::start(options.rate.get(), move || {
        let pool = Arc::clone(&pool);
        async move { pool.query().await }
    })
}

/// Looks at the load once in each bucket, and rotates when that is due.
async fn watch(
    load: &Load,
    length: Duration,
    rotations: &[Duration],
    mut rotate: impl FnMut(),
) -> Vec<Option<Duration>> {
    let began = Instant::now();
    let mut ends = interval_at(began + BUCKET, BUCKET);
    let (mut answered, mut slowest) = (0, Vec::new());
    for at in starts(length) {
        if rotations.contains(&at) {
            rotate();
        }
        ends.tick().await;
        let seen = load.glance();
        slowest.push((seen.queries > answered).then_some(seen.max));
        answered = seen.queries;
    }
    slowest
}

/// When the buckets begin.
pub(super) fn starts(length: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(Duration::ZERO), |last| Some(*last + BUCKET))
        .take_while(move |start| *start < length)
}

async fn wait(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

/// How finely time is divided in the picture. Rotations begin with a bucket.
pub(super) const BUCKET: Duration = Duration::from_millis(100);
const EVERY: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(1);
const RETIREMENT: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pass whose every percentile is so many microseconds.
    pub(in super::super) fn made_up(way: Way, micros: u64, rotations: usize, failed: u64) -> Pass {
        let took = Duration::from_micros(micros);
        let load = load::Measured {
            ran_for: Duration::from_secs(5),
            queries: 5000,
            failed,
            failures: Vec::new(),
            p50: took,
            p99: took,
            p999: took,
            max: took,
        };
        Pass { way, load, slowest: vec![Some(took); 50], rotations, busy: Some(0.25) }
    }

    #[test]
    fn rotations_come_every_five_seconds_and_each_has_an_aftermath() {
        let at = |seconds| moments(Duration::from_secs(seconds)).map(|at| at.as_millis()).collect::<Vec<_>>();
        assert_eq!(at(5), [2500]);
        assert_eq!(at(15), [2500, 7500, 12_500]);
        assert_eq!(at(19), [2500, 7500, 12_500], "one at 17.5 s would have a second and a half");
        assert_eq!(at(20).len(), 4);
    }

    #[test]
    fn rotations_begin_with_a_bucket() {
        let length = Duration::from_secs(60);
        for moment in moments(length) {
            assert!(starts(length).any(|start| start == moment), "{moment:?}");
        }
        assert_eq!(starts(length).count(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_shows_in_the_bucket_in_which_it_was_answered() {
        let began = Instant::now();
        let load = Load::start(20, move || async move {
            // Those due from 250 ms on take 120 ms more.
            let late = began.elapsed() >= Duration::from_millis(250);
            wait(Duration::from_millis(if late { 120 } else { 3 })).await;
            Ok::<(), String>(())
        });
        let mut rotated = Vec::new();
        let rotations = [Duration::from_millis(200)];
        let slowest =
            watch(&load, Duration::from_millis(500), &rotations, || rotated.push(began.elapsed())).await;
        load.stop().await;
        assert_eq!(rotated.len(), 1);
        assert_eq!(rotated[0].as_millis(), 200);
        let slow: Vec<_> = slowest.iter().map(|slowest| slowest.map(|time| time.as_millis() > 100)).collect();
        assert_eq!(slow, [Some(false), Some(false), Some(false), Some(true), Some(true)]);
    }
}
