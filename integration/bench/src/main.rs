//! Leasehold's benchmarks: what `cargo testbed bench` runs.

#![expect(clippy::print_stderr, reason = "a command-line program")]

mod buckets;
mod keeper;
mod process;

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use peak_alloc::PeakAlloc;

/// Benchmarks of Leasehold. Progress and details go to stderr, the result to stdout.
#[derive(Parser)]
#[command(name = "cargo testbed bench", bin_name = "cargo testbed bench", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What ten thousand keepers cost in one process, and how a fleet of ten thousand processes spreads its requests.
    Keeper {
        /// Prints one JSON object and nothing else.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let What::Keeper { json } = Cli::parse().what;
    match keeper::run().and_then(|report| print(&report, json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(report: &keeper::Report, json: bool) -> Result<()> {
    let text = if json { serde_json::to_string(report)? } else { report.to_string() };
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Every allocation of the process goes through it, so that live bytes can be counted.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;
