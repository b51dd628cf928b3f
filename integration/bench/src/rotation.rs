//! `cargo testbed bench rotation`: what queries feel of a rotation.

mod pass;
mod picture;
mod report;
mod saturation;

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    pools::{ADAPTERS, Adapter, Tuning, Way},
    server::Server,
};
use pass::Pass;
pub(crate) use report::Report;

/// Options of `cargo testbed bench rotation`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How often everything is measured; the result is the median.
    #[arg(long, default_value = "5")]
    rounds: NonZeroU32,
    /// How long each of an adapter's three pools is measured in a round.
    #[arg(long, default_value = "15", value_parser = clap::value_parser!(u32).range(5..=600))]
    seconds: u32,
    /// Queries per second, whether or not the ones before have been answered: well below what the machine can.
    #[arg(long, default_value = "1600")]
    rate: NonZeroU32,
    /// The size of each pool.
    #[arg(long, default_value = "16")]
    connections: NonZeroU32,
    /// Writes a picture: latency over time across the rotations.
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    fn tuning(&self) -> Tuning {
        Tuning { size: self.connections.get(), ask_at_check_out: true, ask_now_and_then: true }
    }
}

/// What was measured of one adapter, round by round.
struct Measured {
    adapter: &'static str,
    rounds: Vec<Round>,
}

/// The three ways, measured right after each other.
struct Round {
    plain: Pass,
    close_at_check_out: Pass,
    leasehold: Pass,
}

/// Measures everything, and draws the picture if there is to be one.
pub(crate) fn run(options: &Options) -> Result<Report> {
    if let Some(path) = &options.svg {
        // Told now, not when everything has been measured.
        write(path, "")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(options))?;
    if let Some(path) = &options.svg {
        write(path, &picture::draw(&measured, options))?;
    }
    Ok(Report::new(options, &measured))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

async fn measure(options: &Options) -> Result<Vec<Measured>> {
    let server = Server::start().await?;
    let mut measured = Vec::new();
    for adapter in ADAPTERS {
        let (name, most) = (adapter.name(), saturation::find(adapter, &server, options.tuning()).await?);
        let load = 100.0 * f64::from(options.rate.get()) / most;
        eprintln!("{name}: {most:.0} queries per second at most, the paced load is {load:.0} % of that");
        measured.push(Measured { adapter: name, rounds: Vec::new() });
    }
    for round in 0..options.rounds.get() {
        for (adapter, measured) in ADAPTERS.into_iter().zip(&mut measured) {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, adapter.name());
            measured.rounds.push(in_turn(adapter, &server, options, round).await?);
        }
    }
    Ok(measured)
}

async fn in_turn(adapter: &dyn Adapter, server: &Server, options: &Options, round: u32) -> Result<Round> {
    let mut passes = [const { None }; 3];
    for index in order(round) {
        let pass = pass::run(adapter, WAYS[index], server, options).await?;
        eprintln!("  {pass}");
        passes[index] = Some(pass);
    }
    let [Some(plain), Some(close_at_check_out), Some(leasehold)] = passes else {
        bail!("an order that leaves one out")
    };
    Ok(Round { plain, close_at_check_out, leasehold })
}

/// Every round has another order, so that none of the three always comes after the same one.
fn order(round: u32) -> [usize; 3] {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0], [0, 2, 1], [1, 0, 2]];
    ORDERS[round as usize % ORDERS.len()]
}

const WAYS: [Way; 3] = [Way::Plain, Way::CloseAtCheckOut, Way::Leasehold];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_three_comes_first_in_the_middle_and_last_equally_often() {
        for place in 0..3 {
            for way in 0..3 {
                let times = (0..6).filter(|round| order(*round)[place] == way).count();
                assert_eq!(times, 2, "way {way} at place {place}");
            }
        }
    }
}
