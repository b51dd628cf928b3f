//! Binaries that are compiled with optimizations, and that may need what this one must not.

use std::{
    env,
    ffi::OsStr,
    process::{Command, ExitCode},
};

/// Runs the binary of a package of this workspace, and ends as it does.
pub(crate) fn run(
    package: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) -> ExitCode {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(&cargo);
    command.args(["run", "--release", "--package", package, "--"]).args(arguments).envs(environment);
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
fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
