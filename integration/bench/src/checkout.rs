//! `cargo testbed bench checkout`: what our hooks add to a check-out and return.

mod instructions;
mod report;
pub(crate) mod valgrind;

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use leasehold_core::Credentials;
use tokio::time::{Instant, sleep_until};

use crate::{
    keeper_by_hand::KeeperByHand,
    pools::{ADAPTERS, Adapter, Pool, Tuning, Way},
    process,
    server::Server,
};
use instructions::Instructions;
use report::OfAdapter;
pub(crate) use report::Report;

/// Options of `cargo testbed bench checkout`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many times each pool is measured, in turn with the other.
    #[arg(long, default_value = "400", value_parser = clap::value_parser!(u32).range(2..))]
    batches: u32,
    /// The size of each pool.
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
}

/// Measures everything, on one thread: whatever a check-out sets in motion happens on it, and is counted.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start().await?;
        let mut instructions = Instructions::counted();
        let mut adapters = Vec::new();
        for adapter in ADAPTERS {
            let mut of = measure(adapter, &server, options, instructions.as_mut()).await?;
            if instructions.is_none()
                && let Some(counts) = valgrind::count(adapter, &server, options.connections).await?
            {
                of = of.with_instructions(counts);
            }
            adapters.push(of);
        }
        Ok(Report { adapters })
    })
}

async fn measure(
    adapter: &dyn Adapter,
    server: &Server,
    options: &Options,
    mut instructions: Option<&mut Instructions>,
) -> Result<OfAdapter> {
    let users = server.make_users(2).await?;
    let tuning = Tuning { size: options.connections, ask_at_check_out: false, ask_now_and_then: true };
    let mut keeper = KeeperByHand::new(users.clone());
    let build = async |way| adapter.build(way, &server.place(), tuning, keeper.current()).await;
    let (plain, ours) = (build(Way::Plain).await?, build(Way::Leasehold).await?);
    plain.fill().await?;
    ours.fill().await?;
    // A pool that has never rotated knows that there is nothing to look at.
    keeper.rotate();
    rotated(adapter, server, &users[..1], options.connections).await?;
    ours.fill().await?;

    let times = calibrate(&plain).await?;
    let (mut of_plain, mut of_ours) = (Vec::new(), Vec::new());
    for batch in 0..options.batches {
        // Whoever comes second may find the processor in another mood.
        for plain_now in [batch % 2 == 0, batch % 2 != 0] {
            let (pool, costs) = if plain_now { (&plain, &mut of_plain) } else { (&ours, &mut of_ours) };
            costs.push(Cost::of(pool, times, instructions.as_deref_mut()).await?);
        }
    }
    plain.close().await;
    ours.close().await;
    server.drop_users(&users).await?;
    eprintln!("{}: {} batches of {times} check-outs each", adapter.name(), options.batches);
    Ok(OfAdapter::new(adapter.name(), &of_plain, &of_ours))
}

/// Waits until the plain pool's are the only sessions that the old user has left.
async fn rotated(
    adapter: &dyn Adapter,
    server: &Server,
    old: &[Credentials],
    connections: u32,
) -> Result<()> {
    let end = Instant::now() + ROTATION;
    while server.sessions_of(old).await? > usize::try_from(connections)? {
        if Instant::now() > end {
            bail!("{}: not rotated in {ROTATION:?}", adapter.name());
        }
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
    // sqlx's retirement goes on for a moment, to be sure.
    sleep_until(Instant::now() + SETTLE).await;
    Ok(())
}

/// How many check-outs make a batch of some milliseconds.
async fn calibrate(pool: &Arc<dyn Pool>) -> Result<u32> {
    let mut times = 16;
    loop {
        let began = Instant::now();
        pool.check_out(times).await?;
        if began.elapsed() >= BATCH {
            return Ok(times);
        }
        times *= 2;
    }
}

/// What one check-out and return cost, on average over a batch.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Of the thread's CPU time: waiting for the server's answers is no cost, nor is what else the machine does.
    ns: f64,
    instructions: Option<f64>,
    allocations: f64,
}

impl Cost {
    async fn of(
        pool: &Arc<dyn Pool>,
        times: u32,
        mut instructions: Option<&mut Instructions>,
    ) -> Result<Self> {
        // The first ones find cold caches: the other pool has just been at work.
        pool.check_out(times / 8).await?;
        let each = |total: f64| total / f64::from(times);
        let mut executed = || instructions.as_deref_mut().and_then(Instructions::executed);
        let (before, allocations) = (executed(), process::allocations());
        let began = process::cpu_time_of_this_thread();
        pool.check_out(times).await?;
        let took = process::cpu_time_of_this_thread() - began;
        let (after, allocations) = (executed(), process::allocations() - allocations);
        Ok(Self {
            ns: each(took.as_nanos() as f64),
            instructions: after.zip(before).map(|(after, before)| each((after - before) as f64)),
            allocations: each(allocations as f64),
        })
    }
}

const BATCH: Duration = Duration::from_millis(10);
const ROTATION: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(3);
