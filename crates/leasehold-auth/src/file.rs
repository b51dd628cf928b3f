//! Secrets in small files.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use leasehold_core::{Error, ErrorKind, Party, Result, SecretString};
use tokio::{
    fs,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

/// Reads a file that holds one word, without the white space around it. The error names the file, never its content.
pub(crate) async fn read_secret(path: &Path, what: &str) -> Result<SecretString> {
    let text = read_text(path, what).await?;
    let problem = "holds more than one word, or characters that no token has";
    word_in(&text).ok_or_else(|| unusable(path, what, ErrorKind::Configuration, problem))
}

/// The one word of a text, without the white space around it.
fn word_in(text: &str) -> Option<SecretString> {
    let word = text.trim();
    word.bytes().all(|byte| byte.is_ascii_graphic()).then(|| word.to_owned().into())
}

/// As [`read_secret`], for a password: only the line end goes, which an editor adds.
pub(crate) async fn read_password(path: &Path, what: &str) -> Result<SecretString> {
    let text = read_text(path, what).await?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned().into())
}

/// Looks at a file again and again, with one look at a time: on a network volume that hangs, each would take a thread.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    looking: Arc<AtomicBool>,
}

impl Looks {
    /// As [`read_secret`], for whoever looks again later if there is nothing to be read now.
    pub(crate) async fn secret_in(&self, path: &Path) -> Option<SecretString> {
        if self.looking.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (path, looking) = (path.to_owned(), self.looking.clone());
        let look = spawn_blocking(move || {
            let text = std::fs::read_to_string(path);
            looking.store(false, Ordering::Release);
            text
        });
        let text = timeout(LONGEST_READ, look).await.ok()?.ok()?.ok()?;
        if text.trim().is_empty() { None } else { word_in(&text) }
    }
}

/// Whether there is nothing in it yet.
pub(crate) async fn is_unwritten(path: &Path) -> bool {
    match timeout(LONGEST_READ, fs::metadata(path)).await {
        Ok(Ok(file)) => file.is_file() && file.len() == 0,
        Ok(Err(problem)) => problem.kind() == io::ErrorKind::NotFound,
        Err(_) => false,
    }
}

/// What is in the file, which is not only white space.
async fn read_text(path: &Path, what: &str) -> Result<String> {
    let error = |kind, problem: &str| unusable(path, what, kind, problem);
    // A file on a network volume that hangs must not stop the keeper.
    let read = timeout(LONGEST_READ, read(path)).await;
    let text = match read {
        Err(_) => return Err(error(ErrorKind::Unreachable, "could not be read within 5 s")),
        Ok(Err(problem)) => return Err(error(ErrorKind::Configuration, describe(&problem))),
        Ok(Ok(text)) => text,
    };
    if text.trim().is_empty() { Err(error(ErrorKind::Configuration, "is empty")) } else { Ok(text) }
}

fn unusable(path: &Path, what: &str, kind: ErrorKind, problem: &str) -> Error {
    Error::new(kind, Party::File, format!("{what} at {} {problem}", path.display()))
}

/// A file that is not there, or empty, may be about to be replaced: not everybody who writes one does it as the kubelet does.
async fn read(path: &Path) -> io::Result<String> {
    let read = fs::read_to_string(path).await;
    let is_missing = match &read {
        Ok(text) => text.trim().is_empty(),
        Err(problem) => problem.kind() == io::ErrorKind::NotFound,
    };
    if !is_missing {
        return read;
    }
    sleep_until(Instant::now() + REPLACED_BY_THEN).await;
    fs::read_to_string(path).await
}

fn describe(problem: &io::Error) -> &'static str {
    match problem.kind() {
        io::ErrorKind::NotFound => "does not exist",
        io::ErrorKind::PermissionDenied => "may not be read by this process",
        io::ErrorKind::IsADirectory => "is a directory",
        io::ErrorKind::InvalidData => "is not text",
        _ => "cannot be read",
    }
}

const LONGEST_READ: Duration = Duration::from_secs(5);
const REPLACED_BY_THEN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use leasehold_core::ExposeSecret;

    use super::*;

    #[tokio::test]
    async fn what_is_around_the_secret_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "\n  hvs.abc\r\n").unwrap();
        assert_eq!(read_secret(&path, "the token").await.unwrap().expose_secret(), "hvs.abc");
    }

    #[tokio::test]
    async fn a_password_keeps_all_but_the_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (content, password) in [(" two words \n", " two words "), ("p\r\n", "p"), ("p\n\n", "p\n")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_password(&path, "the password").await.unwrap().expose_secret(), password);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_missing_for_a_moment_is_read_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for before in [None, Some("")] {
            let path = folder.path().join(format!("token-{}", before.is_some()));
            if let Some(before) = before {
                std::fs::write(&path, before).unwrap();
            }
            let replaced = async {
                sleep_until(Instant::now() + REPLACED_BY_THEN / 2).await;
                std::fs::write(&path, "hvs.new").unwrap();
            };
            let (read, ()) = tokio::join!(read_secret(&path, "the token"), replaced);
            assert_eq!(read.unwrap().expose_secret(), "hvs.new");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_other_content_is_a_clear_error_without_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let cases: [(Option<&[u8]>, &str); 5] = [
            (None, "does not exist"),
            (Some(b""), "is empty"),
            (Some(b" \n\n"), "is empty"),
            (Some(b"two words"), "more than one word"),
            (Some(b"\xff\xfe"), "is not text"),
        ];
        for (content, problem) in cases {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = read_secret(&path, "the token").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert_eq!(error.party(), Party::File);
            let text = error.to_string();
            assert!(
                text.contains(problem) && text.contains("token") && !text.contains("two words"),
                "{text}"
            );
        }
        assert!(read_secret(folder.path(), "it").await.unwrap_err().to_string().contains("is a directory"));
    }
}
