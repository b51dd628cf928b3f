//! `cargo testbed bench`.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

use crate::Setup;

/// Options of `cargo testbed bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure.
    what: What,
    /// Prints one JSON object on stdout and nothing else.
    #[arg(long)]
    json: bool,
    /// Options of that benchmark; `-- --help` after its name lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    more: Vec<OsString>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// What ten thousand keepers cost, and how a fleet of ten thousand processes spreads its requests.
    Keeper,
    /// What queries feel of a rotation, in a pool of ours and in pools of others.
    Rotation,
    /// What our hooks add to a check-out and return.
    Checkout,
}

/// Runs the benchmarks' own binary, optimized: it may need what this one must not.
pub(crate) fn run(options: &Options, setup: Setup) -> ExitCode {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let what = match options.what {
        What::Keeper => "keeper",
        What::Rotation => "rotation",
        What::Checkout => "checkout",
    };
    let mut command = Command::new(&cargo);
    command.args(["run", "--release", "--package", "leasehold-bench", "--", what]);
    if options.json {
        command.arg("--json");
    }
    command.args(&options.more).envs(setup.environment());
    match command.status() {
        // One that was ended by a signal has no code.
        Ok(status) => status.code().map_or(ExitCode::FAILURE, exit_code),
        Err(error) => {
            eprintln!("cannot run {cargo}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A code that does not fit is a failure all the same.
pub(crate) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
