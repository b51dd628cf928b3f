//! The container engine.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use testcontainers::{
    GenericImage, ImageExt as _,
    bollard::{
        Docker, errors::Error as DockerError, models::ContainerInspectResponse,
        query_parameters::ListImagesOptionsBuilder,
    },
    core::client::docker_client_instance,
    runners::AsyncRunner as _,
};
use tokio::time::timeout;

use super::reaper::no_client;
use crate::{
    backstage::Backstage,
    config::Report,
    error::{Error, Result, chain},
    image::{Choice, split},
    locate::on_path,
};

/// How long an engine may take to say that it is there.
const GREETING: Duration = Duration::from_secs(5);

/// How long an answer may take; a container's start is the slowest.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long an image may take to be pulled.
const PULL: Duration = Duration::from_secs(900);

/// Whatever answers where testcontainers looks for Docker: `DOCKER_HOST`, or the usual sockets.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    docker: Docker,
    threads: Backstage,
}

/// An image, whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its digest, by which a container can be started.
    pub(crate) id: String,
    pub(crate) labels: HashMap<String, String>,
}

/// Says which engine answers, and from which images these servers would run. Those that are missing are pulled.
pub(crate) async fn find(images: &[Choice], report: Report) -> Result<String> {
    let engine = Engine::connect().await?;
    if ["docker", "podman"].into_iter().all(|client| on_path(client).is_none()) {
        return Err(no_client());
    }
    let mut words = vec![engine.version().await?];
    for image in images {
        words.push(image.find(&engine, report).await?);
    }
    Ok(words.join(", "))
}

impl Engine {
    /// Finds the engine, and makes sure that it answers.
    pub(crate) async fn connect() -> Result<Self> {
        let threads = threads()?;
        let docker = threads.run(async {
            let docker = docker_client_instance().await.map_err(|error| no_engine(&chain(&error)))?;
            match timeout(GREETING, docker.ping()).await {
                Ok(Ok(_)) => Ok(docker),
                Ok(Err(error)) => Err(no_engine(&chain(&error))),
                Err(_) => Err(no_engine(&format!("silence for {GREETING:?}"))),
            }
        });
        Ok(Self { docker: docker.await?, threads })
    }

    /// Its name and version.
    pub(crate) async fn version(&self) -> Result<String> {
        let version = self.ask("its version", |docker| async move { docker.version().await }).await?;
        let name = version.platform.map(|platform| platform.name).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "Docker".into());
        Ok(format!("{name} {}", version.version.unwrap_or_default()).trim().to_owned())
    }

    pub(crate) async fn has_image(&self, name: &str) -> Result<bool> {
        Ok(self.image(name).await?.is_some())
    }

    /// An image that is there.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<Found>> {
        let image = name.to_owned();
        let inspect = move |docker: Docker| async move {
            match docker.inspect_image(&image).await {
                Ok(image) => Ok(Some(image)),
                Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let image = self.ask(&format!("the image {name}"), inspect).await?;
        Ok(image.map(|image| Found {
            id: image.id.unwrap_or_default(),
            labels: image.config.and_then(|config| config.labels).unwrap_or_default(),
        }))
    }

    /// The names of all images of a repository, and their labels.
    pub(crate) async fn images_of(&self, repository: &str) -> Result<Vec<(String, HashMap<String, String>)>> {
        let filters = HashMap::from([("reference".to_owned(), vec![repository.to_owned()])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let list = |docker: Docker| async move { docker.list_images(Some(options)).await };
        let images = self.ask(&format!("the images {repository}"), list).await?;
        let named = images.into_iter().flat_map(|image| {
            let labels = image.labels;
            image.repo_tags.into_iter().map(move |name| (name, labels.clone()))
        });
        Ok(named.collect())
    }

    /// A container's state and addresses; `what` is asked for, in an error.
    pub(crate) async fn inspect(&self, id: &str, what: &str) -> Result<ContainerInspectResponse> {
        let id = id.to_owned();
        self.ask(what, |docker| async move { docker.inspect_container(&id, None).await }).await
    }

    pub(crate) async fn pull(&self, name: &str) -> Result<()> {
        let (repository, tag) = split(name);
        let request = format!("pull {name}");
        self.run(async move {
            let image = GenericImage::new(repository, tag).with_startup_timeout(PULL);
            let pulled = timeout(PULL, image.pull_image()).await;
            let reason = match pulled {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => chain(&error),
                Err(_) => format!("not within {PULL:?}"),
            };
            Err(Error::Engine { request, reason })
        })
        .await
    }

    /// Asks the engine for something.
    pub(crate) async fn ask<T: Send + 'static, F>(
        &self,
        what: &str,
        work: impl FnOnce(Docker) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, DockerError>> + Send + 'static,
    {
        let (request, answer) = (what.to_owned(), work(self.docker.clone()));
        self.run(async move {
            let reason = match timeout(PATIENCE, answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => chain(&error),
                Err(_) => format!("silence for {PATIENCE:?}"),
            };
            Err(Error::Engine { request, reason })
        })
        .await
    }

    /// Runs something on the threads that talk to the engine.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.threads.run(work).await
    }

    pub(crate) fn threads(&self) -> &Backstage {
        &self.threads
    }
}

/// The threads that talk to the engine, the same for the whole process: testcontainers has one client per process, whose
/// connections end with the runtime on which they were made, and a container that is dropped outside a runtime panics.
fn threads() -> Result<Backstage> {
    static THREADS: Mutex<Option<Backstage>> = Mutex::new(None);
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    match &*threads {
        Some(threads) => Ok(threads.clone()),
        None => Ok(threads.insert(Backstage::new()?).clone()),
    }
}

fn no_engine(reason: &str) -> Error {
    Error::Engine {
        request: "a greeting".into(),
        reason: format!(
            "{reason}; start Docker or let DOCKER_HOST say where it is, or set {}=processes",
            crate::Launcher::VARIABLE
        ),
    }
}
