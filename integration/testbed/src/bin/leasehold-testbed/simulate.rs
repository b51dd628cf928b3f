//! `cargo testbed simulate`.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

use crate::bench::exit_code;

/// Options of `cargo testbed simulate`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the world: `--years 100`, `--seed 7 --trace`, `--plan kept.json`, `--json`; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    more: Vec<OsString>,
}

/// Runs the world's own binary, optimized.
pub(crate) fn run(options: &Options) -> ExitCode {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(&cargo);
    command.args(["run", "--release", "--quiet", "--package", "leasehold-world", "--"]).args(&options.more);
    match command.status() {
        Ok(status) => status.code().map_or(ExitCode::FAILURE, exit_code),
        Err(error) => {
            eprintln!("cannot run {cargo}: {error}");
            ExitCode::FAILURE
        }
    }
}
