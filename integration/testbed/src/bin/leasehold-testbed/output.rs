//! Standard output, which may be closed at any time: `cargo testbed demo | head` is no reason to panic.

use std::io::Write as _;

/// Prints a line.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
