//! What holds a container.

use std::{
    fmt,
    sync::{
        Arc, Mutex as SyncMutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use futures_util::TryStreamExt as _;
use testcontainers::{
    ContainerAsync, ContainerRequest, Image,
    bollard::{Docker, query_parameters::LogsOptionsBuilder},
    core::{ExecCommand, error::Result as Answer},
    runners::AsyncRunner as _,
};
use tokio::{sync::Mutex, time::timeout};

use super::engine::{Engine, PATIENCE};
use crate::{
    backstage::{Backstage, poll},
    error::{Error, Result, chain},
};

/// How long a container may take to be removed.
pub(super) const FAREWELL: Duration = Duration::from_secs(20);

/// How long the engine may take to notice that a command whose output has ended is over.
const EXIT: Duration = Duration::from_secs(5);

/// What a command in a container came to.
pub(crate) struct Ran {
    pub(crate) code: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Where a container is, from its first start until it is removed.
type Slot<I> = Arc<Mutex<Option<ContainerAsync<I>>>>;

/// Holds a container until it is to be removed, on the threads that talk to the engine.
pub(crate) struct Holder<I: Image + 'static>(Arc<Held<I>>);

struct Held<I: Image + 'static> {
    container: Slot<I>,
    removed: SyncMutex<Option<Receiver<()>>>,
    threads: Backstage,
}

impl<I: Image + 'static> Holder<I> {
    pub(crate) fn new(threads: &Backstage) -> Self {
        Self(Arc::new(Held {
            container: Arc::default(),
            removed: SyncMutex::default(),
            threads: threads.clone(),
        }))
    }

    /// Starts it: makes it the first time, and starts the same one again later.
    pub(crate) async fn start(
        &self,
        engine: &Engine,
        name: &'static str,
        request: ContainerRequest<I>,
    ) -> Result<()> {
        let slot = self.0.container.clone();
        let work = async move {
            let mut slot = slot.lock().await;
            let started = match &*slot {
                Some(container) => container.start().await,
                None => request.start().await.map(|container| *slot = Some(container)),
            };
            started.map_err(|error| Error::Engine {
                request: format!("a container of {name}"),
                reason: chain(&error),
            })
        };
        engine.run(work).await
    }

    pub(crate) async fn id(&self) -> Result<String> {
        let container = self.0.container.lock().await;
        container.as_ref().map(|container| container.id().to_owned()).ok_or_else(gone)
    }

    pub(super) async fn runs(&self, engine: &Engine) -> Result<bool> {
        let id = self.id().await?;
        let state = engine.inspect(&id, "a container's state").await?.state;
        Ok(state.and_then(|state| state.running).unwrap_or_default())
    }

    /// The last lines of both its outputs, in the order in which they were written.
    pub(super) async fn log(&self, engine: &Engine) -> String {
        let Ok(id) = self.id().await else { return String::new() };
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("100").build();
        let read = |docker: Docker| async move {
            let chunks: Vec<_> = docker.logs(&id, Some(options)).try_collect().await?;
            Ok(chunks.into_iter().map(|chunk| chunk.to_string()).collect::<String>())
        };
        engine.ask("a container's log", read).await.unwrap_or_default()
    }

    /// Runs a command in it.
    pub(crate) async fn exec(&self, engine: &Engine, command: Vec<String>) -> Result<Ran> {
        let (slot, handle) = (self.0.container.clone(), engine.threads().handle().clone());
        // What asks for an exit code cannot be sent from thread to thread.
        engine.threads().block(move || handle.block_on(exec(slot, command))).await
    }

    /// Begins to remove it.
    pub(crate) fn release(&self) {
        self.0.release();
    }
}

async fn exec<I: Image>(slot: Slot<I>, command: Vec<String>) -> Result<Ran> {
    let slot = slot.lock().await;
    let container = slot.as_ref().ok_or_else(gone)?;
    let request = format!("`{}` in a container", command.join(" "));
    let reason = match timeout(PATIENCE, run(container, command)).await {
        Ok(Ok(Some(ran))) => return Ok(ran),
        Ok(Ok(None)) => "its output has ended, and it has not".into(),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("silence for {PATIENCE:?}"),
    };
    Err(Error::Engine { request, reason })
}

async fn run<I: Image>(container: &ContainerAsync<I>, command: Vec<String>) -> Answer<Option<Ran>> {
    let mut running = container.exec(ExecCommand::new(command)).await?;
    let (stdout, stderr) = (running.stdout_to_vec().await?, running.stderr_to_vec().await?);
    let running = &running;
    let code = poll(EXIT, || async { Ok(running.exit_code().await.ok().flatten()) });
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(code.await.ok().flatten().map(|code| Ran { code, stdout: text(stdout), stderr: text(stderr) }))
}

impl<I: Image> Clone for Holder<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: Image> Held<I> {
    fn release(&self) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if removed.is_some() {
            return;
        }
        let (tell, told) = channel();
        *removed = Some(told);
        let slot = self.container.clone();
        self.threads.spawn(async move {
            if let Some(container) = slot.lock().await.take()
                && let Err(error) = container.rm().await
            {
                // The reaper tries again.
                tracing::warn!(error = %chain(&error), "a container was not removed");
            }
            let _ = tell.send(());
        });
    }
}

impl<I: Image> Drop for Held<I> {
    fn drop(&mut self) {
        self.release();
        let removed = self.removed.get_mut().unwrap_or_else(PoisonError::into_inner);
        if removed.take().is_some_and(|removed| removed.recv_timeout(FAREWELL).is_err()) {
            tracing::warn!("a container is still being removed");
        }
    }
}

impl<I: Image> fmt::Debug for Holder<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").finish_non_exhaustive()
    }
}

fn gone() -> Error {
    Error::System {
        what: "the server was already taken down, or never started",
        source: std::io::ErrorKind::NotConnected.into(),
    }
}
