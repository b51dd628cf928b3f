//! Leasehold's benchmarks: what `cargo testbed bench` runs.

#![expect(clippy::print_stderr, reason = "a command-line program")]

mod buckets;
mod checkout;
mod keeper;
mod keeper_by_hand;
mod median;
mod pools;
mod process;
mod rotation;
mod server;

use std::{alloc::System, fmt::Display, io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;
use stats_alloc::StatsAlloc;

/// Benchmarks of Leasehold. Progress and details go to stderr, the result to stdout.
#[derive(Parser)]
#[command(name = "cargo testbed bench", bin_name = "cargo testbed bench", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// Prints one JSON object and nothing else.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// What ten thousand keepers cost in one process, and how a fleet of ten thousand processes spreads its requests.
    Keeper,
    /// What queries feel of a rotation: the plain pool without one, one that closes at check-out, and ours.
    Rotation(rotation::Options),
    /// What our hooks add to a check-out and return.
    Checkout(checkout::Options),
    /// What `checkout` runs under valgrind.
    #[command(hide = true)]
    CheckoutUnderValgrind(checkout::valgrind::Part),
}

fn main() -> ExitCode {
    let Cli { what, json } = Cli::parse();
    let outcome = match what {
        What::Keeper => keeper::run().and_then(|report| print(&report, json)),
        What::Rotation(options) => rotation::run(&options).and_then(|report| print(&report, json)),
        What::Checkout(options) => checkout::run(&options).and_then(|report| print(&report, json)),
        What::CheckoutUnderValgrind(part) => checkout::valgrind::play(&part),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(report: &(impl Serialize + Display), json: bool) -> Result<()> {
    let text = if json { serde_json::to_string(report)? } else { report.to_string() };
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Every allocation of the process goes through it, and is counted.
#[global_allocator]
static HEAP: StatsAlloc<System> = StatsAlloc::system();
