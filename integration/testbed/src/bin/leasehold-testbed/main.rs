//! The binary behind `cargo testbed`.

#![expect(clippy::print_stderr, reason = "a command-line program")]

mod bench;
mod demo;
mod doctor;
mod images;
mod interrupt;
mod optimized;
mod output;
mod setup;
mod simulate;
mod tests;
mod up;

use std::{env, process::ExitCode};

use clap::{Parser, Subcommand};

use interrupt::Interrupt;
pub(crate) use setup::Setup;

/// Real servers for Leasehold: OpenBao and databases on loopback, started here, gone when it ends.
#[derive(Parser)]
#[command(name = "cargo testbed", bin_name = "cargo testbed", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a benchmark, optimized.
    Bench(bench::Options),
    /// Runs the main job: queries through a pool whose token and credentials are renewed and replaced under it.
    Demo(demo::Options),
    /// Says which servers, launchers and images this machine has, and what each missing one would take.
    Doctor,
    /// Builds local images of the servers for a container engine that cannot pull the public ones.
    Images(images::Options),
    /// Lets the real code live in a simulated world, optimized, and compares what it does with what it promises.
    Simulate(simulate::Options),
    /// Runs every test: unit, doc, integration.
    Test(tests::Options),
    /// Starts the servers and keeps them until Ctrl-C, with the environment to use them from another terminal.
    Up(up::Options),
}

fn main() -> ExitCode {
    let Cli { command, setup } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => return usage(&wrong),
    };
    match &command {
        // Ctrl-C ends what they run, and them with it.
        Command::Bench(options) => return bench::run(options, setup),
        Command::Simulate(options) => return simulate::run(options),
        Command::Test(options) => return tests::run(options, setup),
        Command::Demo(_) | Command::Doctor | Command::Images(_) | Command::Up(_) => {}
    }
    log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let interrupt = Interrupt::listen();
        match command {
            Command::Bench(options) => bench::run(&options, setup),
            Command::Demo(options) => demo::run(options, setup, interrupt).await,
            Command::Doctor => doctor::run().await,
            Command::Images(options) => images::run(&options, setup.openbao, interrupt).await,
            Command::Up(options) => up::run(&options, setup, interrupt).await,
            Command::Simulate(options) => simulate::run(&options),
            Command::Test(options) => tests::run(&options, setup),
        }
    })
}

/// What is wrong with the command line, on stderr; whoever asked for JSON gets that too.
fn usage(wrong: &clap::Error) -> ExitCode {
    let _ = wrong.print();
    if wrong.use_stderr() && env::args().any(|argument| argument == "--json") {
        output::line(&demo::failed_to_start(&wrong.render().to_string()));
    }
    ExitCode::from(u8::try_from(wrong.exit_code()).unwrap_or(2))
}

/// Silent unless `RUST_LOG` asks: the demo shows the same events in its own way.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
