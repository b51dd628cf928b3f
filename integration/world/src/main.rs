//! Leasehold's simulated world: what `cargo testbed simulate` runs.

#![expect(clippy::print_stderr, reason = "a command-line program")]

mod callers;
mod database;
mod draw;
mod oracle;
mod panics;
mod plan;
mod pool;
mod report;
mod run;
mod server;
mod service;
mod shrink;
mod sometimes;
mod streams;
#[cfg(test)]
mod tests;
mod time;
mod truth;
mod watched;

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};

use draw::Span;
use plan::{Plan, VERSION};
use report::{Enough, Report};

/// Lets the real code live in a simulated world, and compares what it does with what it promises.
#[derive(Parser)]
#[command(name = "cargo testbed simulate", bin_name = "cargo testbed simulate", version)]
struct Cli {
    /// So many simulated years in all: worlds of hours, of weeks and of a year.
    #[arg(long, default_value_t = 1.0)]
    years: f64,
    /// Runs so many worlds, however long each is.
    #[arg(long, conflicts_with = "years")]
    worlds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from_seed: u64,
    /// Runs this one seed only.
    #[arg(long, conflicts_with_all = ["years", "worlds"])]
    seed: Option<u64>,
    /// The world that a single seed is drawn for.
    #[arg(long, value_enum, default_value_t = Which::Hours)]
    span: Which,
    /// Runs this kept plan only.
    #[arg(long, conflicts_with_all = ["years", "worlds", "seed"])]
    plan: Option<PathBuf>,
    /// Ends the storm of a single run after so many seconds.
    #[arg(long)]
    until: Option<u64>,
    /// Tells the story of a single run.
    #[arg(long)]
    trace: bool,
    /// Makes the plan of a violation smaller, and writes it here.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Worlds that run at the same time, each in a thread of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Prints one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Hours,
    Weeks,
    Year,
}

fn main() -> ExitCode {
    match simulate(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn simulate(cli: &Cli) -> Result<bool> {
    let report = if let Some(path) = &cli.plan {
        single(cli, &read(path)?)?
    } else if let Some(seed) = cli.seed {
        let span = match cli.span {
            Which::Hours => Span::Hours,
            Which::Weeks => Span::Weeks,
            Which::Year => Span::Year,
        };
        single(cli, &draw::plan(seed, span))?
    } else {
        let enough = cli.worlds.map_or(Enough::Years(cli.years), Enough::Worlds);
        report::many(enough, cli.from_seed, cli.threads)
    };
    keep(cli, &report)?;
    let text = if cli.json { serde_json::to_string(&report)? } else { report.to_string() };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(report.is_good())
}

fn single(cli: &Cli, plan: &Plan) -> Result<Report> {
    let mut plan = plan.clone();
    if let Some(until) = cli.until {
        plan.settings.storm_s = plan.settings.storm_s.min(until);
        plan.faults.retain(|fault| fault.at_ms < until * 1_000);
    }
    let outcome = run::run(&plan, cli.trace);
    if cli.trace {
        writeln!(std::io::stdout().lock(), "{}", outcome.story)?;
    }
    Ok(Report::of(&plan, &outcome))
}

fn keep(cli: &Cli, report: &Report) -> Result<()> {
    let (Some(path), Some((plan, violation))) = (&cli.keep, report.first_failure()) else { return Ok(()) };
    eprintln!("{violation}; its plan is made smaller");
    let mut plan = shrink::shrink(plan, violation.promise);
    plan.finding = Some(format!("{:?}", violation.promise));
    fs::write(path, serde_json::to_string_pretty(&plan)?).with_context(|| format!("{}", path.display()))
}

fn read(path: &PathBuf) -> Result<Plan> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let plan: Plan = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    ensure!(plan.version == VERSION, "{} is a plan of version {}", path.display(), plan.version);
    Ok(plan)
}
