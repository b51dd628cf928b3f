//! Commands that run and end.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    error::{Error, Result},
    locate,
};

/// Runs a program and returns what it wrote to its standard output.
pub(crate) fn output(program: &Path, arguments: &[&OsStr]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    run(command)
}

/// Lets a command run as the servers do.
pub(crate) fn unprivileged(mut command: Command) -> Result<Command> {
    if let Some(user) = locate::unprivileged()? {
        command.uid(user.uid).gid(user.gid);
    }
    Ok(command)
}

/// Runs a command and returns what it wrote to its standard output.
pub(crate) fn run(mut command: Command) -> Result<String> {
    let failed = |reason: String, command: &Command| Error::Command {
        command: std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" "),
        reason,
    };
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => return Err(failed(error.to_string(), &command)),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&said).trim()), &command))
}
