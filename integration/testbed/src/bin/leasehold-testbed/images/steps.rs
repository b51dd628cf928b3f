//! Commands that take a while, one after the other.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use crate::interrupt::Interrupt;

/// Runs commands until somebody asks to stop.
pub(crate) struct Steps {
    interrupt: Interrupt,
}

impl Steps {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Self { interrupt }
    }

    /// Runs a command with a line that says what it is for and how long it took, and returns its standard output.
    pub(crate) async fn run(&self, what: &str, command: Command) -> Result<String> {
        eprint!("{what}: ");
        let began = Instant::now();
        let ran = self.output(command).await;
        let took = began.elapsed().as_secs_f32();
        match &ran {
            Ok(_) => eprintln!("{took:.1} s"),
            Err(_) => eprintln!("not done, after {took:.1} s"),
        }
        ran.with_context(|| what.to_owned())
    }

    /// Runs a command that takes no time.
    pub(crate) async fn output(&self, mut command: Command) -> Result<String> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for us, who have something to tidy up.
        let child = command.process_group(0).kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("cannot run {name}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let output = child.wait_with_output();
        tokio::pin!(output);
        let output = tokio::select! {
            output = &mut output => output.with_context(|| format!("waiting for {name}"))?,
            () = self.interrupt.asked() => {
                for (signal, patience) in [(Signal::TERM, 2), (Signal::KILL, 10)] {
                    // One that has ended meanwhile is no failure.
                    let _ = group.map(|group| kill_process_group(group, signal));
                    if timeout(Duration::from_secs(patience), &mut output).await.is_ok() {
                        break;
                    }
                }
                bail!("stopped");
            }
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = [output.stdout, output.stderr].concat();
        bail!("{name}: {}\n{}", output.status, end_of(&String::from_utf8_lossy(&said)));
    }

    /// Whether somebody has asked to stop, so that a failure means nothing.
    pub(crate) fn were_stopped(&self) -> bool {
        self.interrupt.was_asked()
    }

    /// Waits, unless somebody asks to stop.
    pub(crate) async fn pause(&self, time: Duration) -> Result<()> {
        match timeout(time, self.interrupt.asked()).await {
            Ok(()) => bail!("stopped"),
            Err(_) => Ok(()),
        }
    }
}

/// The last lines, where a failure says why.
fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines.len().saturating_sub(LINES);
    lines[end..].iter().map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

const LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_failure_shows_the_end_of_what_it_said() {
        let steps = Steps::new(Interrupt::listen());
        let script = "for line in $(seq 100); do echo \"line $line\"; done; echo because >&2; exit 3";
        let error = format!("{:#}", steps.output(shell(script)).await.unwrap_err());
        assert!(error.contains("exit status: 3") && error.ends_with("line 100\n  because"), "{error}");
        assert!(error.contains("line 90") && !error.contains("line 50"), "{error}");
    }

    #[tokio::test]
    async fn what_it_said_is_returned() {
        let steps = Steps::new(Interrupt::listen());
        assert_eq!(steps.output(shell("echo yes; echo no >&2")).await.unwrap(), "yes\n");
    }
}
