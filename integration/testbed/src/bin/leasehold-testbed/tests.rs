//! `cargo testbed test`.

use std::{
    env,
    process::{Command, ExitCode, Stdio},
};

/// Options of `cargo testbed test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to hand to the test runner: a filter, `--package leasehold-renewal`, ...
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the tests with nextest where it is installed, and the doc tests, which nextest does not know.
pub(crate) fn run(options: &Options) -> ExitCode {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let nextest = Command::new(&cargo)
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let has_nextest = nextest.is_ok_and(|status| status.success());
    let runner: &[&str] = if has_nextest { &["nextest", "run"] } else { &["test", "--all-targets"] };
    let tests = [runner, EVERYTHING].concat();
    let filtered = !options.arguments.is_empty();
    let mut passed = cargo_run(&cargo, &tests, &options.arguments);
    if !filtered {
        passed &= cargo_run(&cargo, &[&["test", "--doc"], EVERYTHING].concat(), &[]);
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cargo_run(cargo: &str, arguments: &[&str], more: &[String]) -> bool {
    eprintln!("cargo {} {}", arguments.join(" "), more.join(" "));
    match Command::new(cargo).args(arguments).args(more).status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {cargo}: {error}");
            false
        }
    }
}

/// This binary's own tests too, and those of adapters, which are behind features. None needs a library of the system.
const EVERYTHING: &[&str] = &[
    "--workspace",
    "--features",
    "leasehold-testbed/cli,leasehold-sqlx/any,leasehold-bb8/diesel-async,leasehold-deadpool/redis,leasehold-deadpool/mysql,leasehold-deadpool/diesel-async",
];
