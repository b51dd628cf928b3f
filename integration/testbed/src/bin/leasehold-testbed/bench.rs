//! `cargo testbed bench`.

use std::{ffi::OsString, process::ExitCode};

use crate::{Setup, optimized};

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
    let what = match options.what {
        What::Keeper => "keeper",
        What::Rotation => "rotation",
        What::Checkout => "checkout",
    };
    let json = options.json.then_some("--json");
    let arguments = [what].into_iter().chain(json).map(OsString::from).chain(options.more.clone());
    optimized::run("leasehold-bench", arguments, setup.environment())
}
