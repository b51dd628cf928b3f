//! Standard output, which may be closed at any time: `cargo testbed demo | head` is no reason to panic.

use std::{io::Write as _, process::ExitCode};

/// Prints a line.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// What a command that reports nothing else ends with: its error on stderr, if it has one.
pub(crate) fn verdict(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
