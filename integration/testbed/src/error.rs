//! What can go wrong, told so that the reader knows what to do.

use std::{io, path::PathBuf};

/// A testbed's failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is neither here nor could it be installed.
    #[error("{program} was not found {searched}; {remedy}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        searched: String,
        /// What the reader can do about it.
        remedy: String,
    },

    /// Installing a program failed.
    #[error("could not install {program}: {reason}")]
    Install {
        /// The program.
        program: &'static str,
        /// What failed.
        reason: String,
    },

    /// A server ended, or did not answer in time.
    #[error("{server} {reason}; the end of its log:\n{log}")]
    Server {
        /// The server.
        server: &'static str,
        /// What it did or failed to do.
        reason: String,
        /// The last lines of its log.
        log: String,
    },

    /// A server answered with an error.
    #[error("{server} answered {status} to {request}: {body}")]
    Answer {
        /// The server.
        server: &'static str,
        /// Method and path, or the statement.
        request: String,
        /// The HTTP status, PostgreSQL's SQLSTATE, MariaDB's error number, Redis's first word, or AMQP's reply code.
        status: String,
        /// What it said.
        body: String,
    },

    /// A request got no answer.
    #[error("no answer to {request}: {reason}")]
    Unanswered {
        /// Method and path, or the statement.
        request: String,
        /// Why not, with the causes.
        reason: String,
    },

    /// A command failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status and what it wrote.
        reason: String,
    },

    /// The container engine did not do what it was asked for, or does not answer.
    #[error("the container engine was asked for {request}: {reason}")]
    Engine {
        /// What it was asked for.
        request: String,
        /// Why it failed, with the causes.
        reason: String,
    },

    /// A variable of the environment means nothing.
    #[error("{variable} is `{value}`; it can be {wanted}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What it can say.
        wanted: String,
    },

    /// A file could not be read or written.
    #[error("cannot use {}; if it is a cache of the testbed, CARGO_TARGET_DIR moves it", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// A certificate, key or token could not be made.
    #[error("could not make a certificate or a token: {0}")]
    Crypto(String),

    /// Something the operating system refused.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// The error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
