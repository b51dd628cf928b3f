//! Many processes whose tokens and database users all die in one second, on paused time: how soon does everybody work
//! again, and how much does the server do for nobody?

mod server;

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use leasehold_core::{
    Credentials, Current, ErrorKind, Token,
    clock::{Clock as _, Moment, TestClock, sleep_until},
};
use leasehold_renewal::{Builder, Keeper};
use tokio::task::JoinSet;

use server::{Limits, Login, Overflow, Queue, Role, Server};

/// The figures of the worst variant, and of one process alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worst {
    pub(crate) over_minimum: f64,
    pub(crate) wasted_share: f64,
    pub(crate) alone: Duration,
}

/// Lets a fleet recover in each way in which its server may be too busy. Ten thousand meet one that serves 111 logins and
/// 111 issues in a second and queues 1,000 requests; fewer meet one that is smaller in proportion.
pub(crate) fn worst(clients: usize, seed: u64) -> Result<Worst> {
    let size = clients as f64 / 10_000.0;
    let (rate, queued) = (111.0 * size, (1000.0 * size) as usize);
    let mut worst = Worst { over_minimum: 0.0, wasted_share: 0.0, alone: Duration::ZERO };
    let refuses = [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(5))].map(Overflow::Refuses);
    for queue in [Queue::Each, Queue::Shared] {
        for overflow in [Overflow::TimesOut].into_iter().chain(refuses) {
            let scenario = Scenario { clients, rate, queued, queue, overflow, seed };
            let Recovery { over_minimum, wasted_share, half, all, requests_each } = simulate(scenario)?;
            eprintln!(
                "{clients} recover, {queue:?}, {overflow:?}: half in {half:.1?}, all in {all:.1?} ({over_minimum:.3} times \
                 the minimum), {wasted_share:.4} wasted, {requests_each:.1} requests each"
            );
            worst.over_minimum = worst.over_minimum.max(over_minimum);
            worst.wasted_share = worst.wasted_share.max(wasted_share);
        }
    }
    let (queue, overflow) = (Queue::Shared, Overflow::TimesOut);
    worst.alone = simulate(Scenario { clients: 1, rate: 111.0, queued: 1000, queue, overflow, seed })?.all;
    Ok(worst)
}

/// A fleet and the server that it asks.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    clients: usize,
    /// How many logins the server serves in a second, and as many issues.
    rate: f64,
    /// How many requests wait at most.
    queued: usize,
    queue: Queue,
    overflow: Overflow,
    seed: u64,
}

/// How a fleet came back.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// When the last process had credentials that work, over the time that the server needs to serve as many.
    over_minimum: f64,
    /// The requests that the server served after their client had given up, over all that it served.
    wasted_share: f64,
    /// When half of the processes had credentials that work.
    half: Duration,
    all: Duration,
    /// How many requests of all kinds each process sent.
    requests_each: f64,
}

/// Lets a fleet start, lets everything that it holds die, and waits until the last process works again.
fn simulate(scenario: Scenario) -> Result<Recovery> {
    fastrand::seed(scenario.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(run(scenario))
}

async fn run(scenario: Scenario) -> Result<Recovery> {
    let Scenario { clients, rate, queued, queue, overflow, .. } = scenario;
    let clock = Arc::new(TestClock::new());
    let server = Arc::new(Server::new(clock.clone(), Limits { rate, queued, queue, overflow }));
    let mut starting = JoinSet::new();
    (0..clients).for_each(|_| drop(starting.spawn(start(server.clone()))));
    let fleet = starting.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    sleep_until(&*clock, clock.now() + BEFORE).await;

    let death = clock.now();
    server.everything_dies();
    let mut waiting = JoinSet::new();
    for (index, process) in fleet.iter().enumerate() {
        let at = death + Duration::from_secs(1).mul_f64(index as f64 / clients as f64);
        waiting.spawn(use_it(clock.clone(), process.1.current(), at));
    }
    let mut back = waiting.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    back.sort_unstable();
    let served = server.served();
    drop(fleet);

    let after = |share: f64| {
        let index = (share * clients as f64) as usize;
        death.until(back.get(index.min(clients - 1)).copied().unwrap_or(death))
    };
    let all = after(1.0);
    Ok(Recovery {
        over_minimum: all.as_secs_f64() / (clients as f64 / rate),
        wasted_share: served.wasted as f64 / served.all.max(1) as f64,
        half: after(0.5),
        all,
        requests_each: served.asked as f64 / clients as f64,
    })
}

/// One process: it logs in, and obtains credentials under its token.
async fn start(server: Arc<Server>) -> Result<(Keeper<Token>, Keeper<Credentials>)> {
    let builder = Builder::new().clock(server.clock.clone());
    let token = builder.clone().start(Login { server: server.clone() }).await?;
    let login = builder.start(Role { server, token: token.current() }).await?;
    Ok((token, login))
}

/// A pool: from `at` on the database refuses its user, and it says so each second until there is another that works.
async fn use_it(clock: Arc<TestClock>, mut current: Current<Credentials>, at: Moment) -> Result<Moment> {
    let dead = current.get()?.generation();
    let mut next = at;
    loop {
        tokio::select! {
            biased;
            changed = current.changed() => {
                ensure!(changed?.generation() != dead, "the same credentials again");
                return Ok(clock.now());
            }
            () = sleep_until(&*clock, next) => {
                current.reject(dead, ErrorKind::CredentialsRefused);
                next = next + Duration::from_secs(1);
            }
        }
        ensure!(at.until(clock.now()) < GIVE_UP, "no credentials within {GIVE_UP:?}");
    }
}

/// Long enough for the start to be over, and too short for a renewal.
const BEFORE: Duration = Duration::from_secs(600);
const GIVE_UP: Duration = Duration::from_secs(4 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_is_back_soon_and_little_is_done_for_nobody() {
        let worst = worst(200, 1).unwrap();
        assert!(worst.over_minimum <= 1.5, "{worst:?}");
        assert!(worst.wasted_share <= 0.1, "{worst:?}");
        assert!(worst.alone <= Duration::from_secs(1), "{worst:?}");
    }
}
