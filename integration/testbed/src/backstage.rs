//! The testbed's own threads.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::error::{Error, Result};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime that lives as long as the testbed and runs everything the testbed does.
///
/// A test's own runtime may be single-threaded, busy, or have its time paused, in which every deadline would
/// pass at once; and a `Testbed` may outlive the runtime it was started on.
#[derive(Clone, Debug)]
pub(crate) struct Backstage(Arc<Inner>);

#[derive(Debug)]
struct Inner(Option<Runtime>, Handle);

impl Backstage {
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("leasehold-testbed")
            .enable_all()
            .build()
            .map_err(Error::system("could not start the testbed's threads"))?;
        let handle = runtime.handle().clone();
        Ok(Self(Arc::new(Inner(Some(runtime), handle))))
    }

    /// Runs a future backstage and waits for it from whatever runtime the caller is on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        joined(self.spawn(work).await)
    }

    /// Runs a request to a server backstage, for as long as an answer may take.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        request: String,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.run(async move {
            let reason = format!("silence for {PATIENCE:?}");
            timeout(PATIENCE, work).await.unwrap_or(Err(Error::Unanswered { request, reason }))
        })
        .await
    }

    /// Runs something that blocks.
    pub(crate) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        joined(self.0.1.spawn_blocking(work).await)
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.1.spawn(work)
    }

    /// Lets a synchronous caller create sockets of this runtime.
    pub(crate) fn handle(&self) -> &Handle {
        &self.0.1
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime that waits for its tasks must not be dropped inside another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Asks every 20 ms until there is an answer; `None` when there was none in time.
pub(crate) async fn poll<T, F: Future<Output = Result<Option<T>>>>(
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<Option<T>> {
    let deadline = Instant::now() + within;
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < deadline {
        ticks.tick().await;
        if let Some(answer) = ask().await? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

fn joined<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match outcome {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => {
                Err(Error::Unanswered { request: "the testbed's own task".into(), reason: error.to_string() })
            }
        },
    }
}
