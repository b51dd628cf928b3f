//! `cargo testbed simulate`.

use std::{ffi::OsString, process::ExitCode};

use crate::optimized;

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
    optimized::run("leasehold-world", &options.more, [("", ""); 0])
}
