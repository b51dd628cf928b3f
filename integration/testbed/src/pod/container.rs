//! A server as a container.

use std::{
    fmt,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use testcontainers::{
    ContainerRequest, GenericImage, ImageExt as _,
    bollard::{
        Docker,
        errors::Error as DockerError,
        models::{HostConfig, Mount, MountTypeEnum},
        query_parameters::KillContainerOptionsBuilder,
    },
};

use super::{
    Pod,
    holder::{FAREWELL, Holder},
    reaper::LABEL,
};
use crate::{
    backstage::poll,
    error::{Error, Result},
    image::split,
    server::Runner,
};

/// Where a container finds its server's folder.
pub(crate) const SHOWN: &str = "/leasehold";

/// How long a server may take to stop in an orderly way, as for a process.
const STOP: Duration = Duration::from_secs(6);

/// What to run, and how.
#[derive(Clone)]
pub(crate) struct Spec {
    /// The server's name in messages.
    pub(crate) name: &'static str,
    /// The image.
    pub(crate) image: String,
    /// What its entrypoint is given.
    pub(crate) command: Vec<String>,
    /// Its environment, which may hold a password.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The signal of an orderly stop, without `SIG`.
    pub(crate) stop: &'static str,
}

/// A container of a pod, which is removed with it and shown its folder at [`SHOWN`].
pub(crate) struct Container {
    spec: Spec,
    folder: PathBuf,
    holder: Holder<GenericImage>,
    pod: Pod,
}

impl Container {
    pub(super) fn new(pod: Pod, spec: Spec, folder: PathBuf) -> Self {
        Self { spec, folder, holder: Holder::new(pod.engine().threads()), pod }
    }

    /// The engine's name for it, once it was started.
    pub(crate) async fn id(&self) -> Result<String> {
        self.holder.id().await
    }

    /// The engine's command-line client.
    pub(crate) fn client(&self) -> &str {
        self.pod.0.reaper.client()
    }

    fn request(&self) -> ContainerRequest<GenericImage> {
        let (name, tag) = split(&self.spec.image);
        let network = format!("container:{}", self.pod.0.network);
        let folder = self.folder.to_string_lossy().into_owned();
        let join = move |host: &mut HostConfig| {
            // testcontainers would make a network of that name.
            host.network_mode = Some(network.clone());
            host.publish_all_ports = None;
            host.port_bindings = None;
            host.mounts = Some(vec![Mount {
                target: Some(SHOWN.into()),
                source: Some(folder.clone()),
                typ: Some(MountTypeEnum::BIND),
                read_only: Some(true),
                ..Mount::default()
            }]);
        };
        let mut request = GenericImage::new(name, tag)
            .with_cmd(&self.spec.command)
            .with_container_name(self.pod.container_name(self.spec.name))
            .with_label(LABEL, self.pod.0.reaper.name())
            // Where SELinux is on, a container may not read a folder that is not labelled for it.
            .with_security_opt("label=disable")
            .with_host_config_modifier(join);
        for (name, value) in &self.spec.environment {
            request = request.with_env_var(*name, value);
        }
        request
    }

    async fn signal(&self, signal: &'static str) -> Result<()> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        self.order("signal", |docker, id| async move { docker.kill_container(&id, Some(options)).await })
            .await
    }

    /// Gives the engine an order about this container. That it is not in the state for that is no error, as it is none
    /// for a process.
    async fn order<F>(&self, what: &str, give: impl FnOnce(Docker, String) -> F) -> Result<()>
    where
        F: Future<Output = Result<(), DockerError>> + Send + 'static,
    {
        let id = self.holder.id().await?;
        let request = format!("{what} {}", self.spec.name);
        let order = |docker| {
            let given = give(docker, id);
            async move {
                match given.await {
                    Err(DockerError::DockerResponseServerError { status_code: 304 | 409, .. }) => Ok(()),
                    // The engine of long ago: cannot pause what does not run.
                    Err(DockerError::DockerResponseServerError { status_code: 500, message })
                        if message.contains("not running") || message.contains("not paused") =>
                    {
                        Ok(())
                    }
                    given => given,
                }
            }
        };
        self.pod.engine().ask(&request, order).await
    }

    /// Whether it is gone within a time.
    async fn ends(&self, within: Duration) -> Result<bool> {
        let (holder, engine) = (self.holder.clone(), self.pod.engine().clone());
        let gone = self.pod.engine().run(async move {
            poll(within, || async { Ok((!holder.runs(&engine).await?).then_some(())) }).await
        });
        Ok(gone.await?.is_some())
    }
}

#[async_trait]
impl Runner for Container {
    fn folder(&self) -> &Path {
        &self.folder
    }

    async fn start(&self) -> Result<()> {
        show(&self.folder)?;
        self.holder.start(self.pod.engine(), self.spec.name, self.request()).await
    }

    async fn alive(&self) -> Result<bool> {
        self.holder.runs(self.pod.engine()).await
    }

    async fn pause(&self) -> Result<()> {
        self.order("pause", |docker, id| async move { docker.pause_container(&id).await }).await
    }

    async fn resume(&self) -> Result<()> {
        self.order("unpause", |docker, id| async move { docker.unpause_container(&id).await }).await
    }

    async fn kill(&self) -> Result<()> {
        self.signal("KILL").await?;
        // What is frozen cannot end.
        self.resume().await?;
        if self.ends(FAREWELL).await? {
            return Ok(());
        }
        Err(Error::Engine { request: format!("kill {}", self.spec.name), reason: "it still runs".into() })
    }

    async fn stop(&self) -> Result<()> {
        self.resume().await?;
        // Not by `docker stop`, which takes a signal only from engine 23 on.
        self.signal(self.spec.stop).await?;
        if self.ends(STOP).await? { Ok(()) } else { self.kill().await }
    }

    async fn log(&self) -> String {
        self.holder.log(self.pod.engine()).await
    }

    fn release(&self) {
        self.holder.release();
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { name, image, .. } = &self.spec;
        f.debug_struct("Container").field("name", name).field("image", image).finish_non_exhaustive()
    }
}

/// Lets whoever the server runs as read what is in its folder, however careful the user's umask is.
fn show(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::file(folder))?.flatten() {
        let path = entry.path();
        if path.is_file() {
            fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(Error::file(&path))?;
        }
    }
    Ok(())
}
