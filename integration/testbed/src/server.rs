//! One server, whatever runs it.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{
    backstage::{Backstage, poll},
    error::{Error, Result},
};

/// How long a start may take. A container's first one makes its data folder.
const START: Duration = Duration::from_secs(60);

/// What runs a server: a process of this machine, or a container.
#[async_trait]
pub(crate) trait Runner: Debug + Send + Sync + 'static {
    /// The server's folder on this machine, removed with it.
    fn folder(&self) -> &Path;

    /// Starts the server, which must not be running.
    async fn start(&self) -> Result<()>;

    /// Whether it runs, paused or not.
    async fn alive(&self) -> Result<bool>;

    /// Stops it in its tracks, with all its processes.
    async fn pause(&self) -> Result<()>;

    /// Lets it go on.
    async fn resume(&self) -> Result<()>;

    /// Kills it with all its processes, and waits until they are gone.
    async fn kill(&self) -> Result<()>;

    /// Ends it in an orderly way, and waits until it is gone.
    async fn stop(&self) -> Result<()>;

    /// What it wrote to its log.
    async fn log(&self) -> String;

    /// Begins its end without waiting for it, so that several servers end at the same time. Dropping waits.
    fn release(&self);
}

/// How a database's superuser comes in.
#[derive(Clone, Debug)]
pub(crate) enum Superuser {
    /// Through a socket in the server's folder, and nowhere else.
    Socket(PathBuf),
    /// Over TCP, with a password.
    Password(SecretString),
}

/// A server that can be started and disturbed.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    runner: Arc<dyn Runner>,
    backstage: Backstage,
}

impl Server {
    pub(crate) fn new(name: &'static str, runner: Arc<dyn Runner>, backstage: &Backstage) -> Self {
        Self { name, runner, backstage: backstage.clone() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.runner.folder()
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start<F: Future<Output = bool> + Send>(
        &self,
        answers: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<()> {
        self.runner.start().await?;
        let runner = self.runner.clone();
        let answer = self.backstage.run(async move {
            poll(START, || async {
                if !runner.alive().await? {
                    return Ok(Some(false));
                }
                Ok(answers().await.then_some(true))
            })
            .await
        });
        match answer.await? {
            Some(true) => Ok(()),
            Some(false) => Err(self.failed("ended instead of starting").await),
            None => Err(self.failed(format!("did not answer within {START:?}")).await),
        }
    }

    pub(crate) fn runner(&self) -> &dyn Runner {
        &*self.runner
    }

    /// An error with the end of its log.
    pub(crate) async fn failed(&self, reason: impl Into<String>) -> Error {
        let log = self.runner.log().await;
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::Server { server: self.name, reason: reason.into(), log }
    }
}

/// Gives a type with a field `server`, a [`Server`], what can be done to any server.
macro_rules! disturbed {
    ($server:ident) => {
        impl $server {
            /// Its folder on this machine, removed with it: a process keeps its data and its log there, a container is
            /// shown what it is configured with.
            pub fn folder(&self) -> &std::path::Path {
                self.server.folder()
            }

            /// Stops all its processes where they are: connections stay open and new ones are accepted, and nothing
            /// answers.
            pub async fn pause(&self) -> $crate::error::Result<()> {
                self.server.runner().pause().await
            }

            /// Lets a paused server go on.
            pub async fn resume(&self) -> $crate::error::Result<()> {
                self.server.runner().resume().await
            }

            /// Kills all its processes, as a crash of the machine would.
            pub async fn kill(&self) -> $crate::error::Result<()> {
                self.server.runner().kill().await
            }

            /// Shuts it down in an orderly way, without waiting for its clients.
            pub async fn stop(&self) -> $crate::error::Result<()> {
                self.server.runner().stop().await
            }

            /// Begins its end without waiting for it.
            pub(crate) fn release(&self) {
                self.server.runner().release();
            }
        }
    };
}
pub(crate) use disturbed;
