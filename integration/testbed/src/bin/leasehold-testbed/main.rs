//! The binary behind `cargo testbed`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod demo;
mod tests;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Real servers for Leasehold: OpenBao and PostgreSQL on loopback, started here, gone when it ends.
#[derive(Parser)]
#[command(name = "cargo testbed", bin_name = "cargo testbed", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the main job: queries through a pool whose token and credentials are renewed and replaced under it.
    Demo(demo::Options),
    /// Runs every test: unit, doc, integration.
    Test(tests::Options),
    /// Starts the servers and keeps them until Ctrl-C, with the environment to use them from another terminal.
    Up,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Test(options) = cli.command {
        return tests::run(&options);
    }
    log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match cli.command {
        Command::Demo(options) => runtime.block_on(demo::run(options)),
        Command::Up => runtime.block_on(up::run()),
        Command::Test(options) => tests::run(&options),
    }
}

/// Silent unless `RUST_LOG` asks: the demo shows the same events in its own way.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Completes at Ctrl-C or SIGTERM.
async fn asked_to_stop() {
    use tokio::signal::{ctrl_c, unix};

    let terminated = async {
        match unix::signal(unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = ctrl_c() => {}
        () = terminated => {}
    }
}
