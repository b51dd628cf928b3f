//! Containers that share one network, as those of a Kubernetes pod do.
//!
//! Every server listens on the same port inside the pod and on this machine's loopback, so an address that a test gives to
//! OpenBao is good for both of them. The pod's network belongs to a container that does nothing: the servers can be
//! killed and started again without anybody's address changing.

mod container;
pub(crate) mod engine;
mod template;

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{DirBuilder, File},
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::Arc,
};

use testcontainers::{
    ContainerRequest, GenericImage, ImageExt as _,
    bollard::models::{HostConfig, PortBinding},
    core::IntoContainerPort as _,
};

use container::Holder;
pub(crate) use container::{Container, SHOWN, Spec};
use engine::Engine;
pub(crate) use template::{DATA, prepare};

use crate::{
    backstage::Backstage,
    config::Report,
    error::{Error, Result},
    image::{Image, split},
    shell::{Script, Shell},
};

/// The label of everything that the testbed starts, whose value is the pod's.
pub(crate) const LABEL: &str = "com.leasehold.testbed";

/// The containers of one testbed.
#[derive(Clone, Debug)]
pub(crate) struct Pod(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    name: String,
    /// The container whose network the others share.
    network: String,
    gateway: Option<IpAddr>,
    report: Report,
    // In this order: the container goes, and then the shell finds nothing that is left.
    holder: Holder,
    shell: Shell,
}

impl Pod {
    /// Starts what the containers share, with these ports of the loopback interface.
    pub(crate) async fn start(backstage: &Backstage, ports: Vec<u16>, report: Report) -> Result<Self> {
        let engine = Engine::connect().await?;
        // Whatever image is there can sleep; this one is in every testbed.
        let image = Image::Postgres.find(&engine, report).await?;
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let shell = reaper(backstage, &name).await?;
        let holder = Holder::new(engine.threads());
        holder.start(&engine, "the pod", sleeper(&image, &name, ports)).await?;
        let network = holder.id().await?;
        // A reaper that asks another engine would leave everything behind.
        if shell.order("count").await? == "0" {
            return Err(Error::Engine {
                request: "the pod's containers".into(),
                reason:
                    "the command `docker` talks to another engine than DOCKER_HOST or the socket leads to; \
                         let DOCKER_HOST name the one to use"
                        .into(),
            });
        }
        let gateway = gateway(&engine, &network).await?;
        Ok(Self(Arc::new(Inner { engine, name, network, gateway, report, holder, shell })))
    }

    /// The address at which containers reach this machine, where the engine runs on it.
    pub(crate) fn gateway(&self) -> Option<IpAddr> {
        self.0.gateway
    }

    /// The label of its containers, as it is asked for.
    pub(crate) fn label(&self) -> String {
        format!("{LABEL}={}", self.0.name)
    }

    fn container_name(&self, of: &str) -> String {
        container_name(&self.0.name, of)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn report(&self) -> Report {
        self.0.report
    }

    /// A container that is not started yet.
    pub(crate) fn container(&self, spec: Spec) -> Result<Container> {
        let folder = self.0.folder(spec.name)?;
        Ok(Container::new(self.clone(), spec, folder))
    }

    pub(crate) async fn image(&self, image: Image) -> Result<String> {
        image.find(&self.0.engine, self.0.report).await
    }
}

impl Inner {
    /// Makes a folder that a container can be shown, whoever it runs as; nobody else comes as far as the folder it lies in.
    fn folder(&self, server: &str) -> Result<PathBuf> {
        let folder = self.shell.folder().join(server.to_lowercase());
        match DirBuilder::new().mode(0o755).create(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::file(&folder)(error))
            }
            _ => Ok(folder),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.holder.release();
        // Tells the shell that nothing was under way.
        let _ = File::create(self.shell.folder().join("done"));
    }
}

async fn reaper(backstage: &Backstage, name: &str) -> Result<Shell> {
    let (label, threads) = (format!("{LABEL}={name}"), backstage.clone());
    let shell = backstage.block(move || {
        let script = Script {
            text: include_str!("pod/reaper.sh"),
            name: "pod",
            arguments: vec![OsStr::new(&label)],
            environment: Vec::new(),
            user: None,
        };
        Shell::start(script, &threads)
    });
    let shell = shell.await?;
    if shell.order("client").await? != "none" {
        return Ok(shell);
    }
    Err(Error::Missing {
        program: "the command `docker`",
        searched: "on PATH, nor was `podman`".into(),
        remedy:
            "install the engine's command-line client: it removes the containers of a test that was killed"
                .into(),
    })
}

fn container_name(pod: &str, of: &str) -> String {
    format!("leasehold-{pod}-{}", of.to_lowercase())
}

/// A container that does nothing, with ports of the loopback interface.
fn sleeper(image: &str, pod: &str, ports: Vec<u16>) -> ContainerRequest<GenericImage> {
    let (name, tag) = split(image);
    let mut image = GenericImage::new(name, tag).with_entrypoint("sleep");
    for port in &ports {
        image = image.with_exposed_port(port.tcp());
    }
    let publish = move |host: &mut HostConfig| {
        let binding = |port: &u16| {
            let binding =
                PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(port.to_string()) };
            (format!("{port}/tcp"), Some(vec![binding]))
        };
        host.publish_all_ports = None;
        host.port_bindings = Some(ports.iter().map(binding).collect::<HashMap<_, _>>());
    };
    image
        .with_cmd(["infinity"])
        .with_container_name(container_name(pod, "network"))
        .with_label(LABEL, pod)
        .with_host_config_modifier(publish)
}

async fn gateway(engine: &Engine, container: &str) -> Result<Option<IpAddr>> {
    let id = container.to_owned();
    let inspect = move |docker: testcontainers::bollard::Docker| async move {
        docker.inspect_container(&id, None).await
    };
    let networks = engine.ask("the pod's network", inspect).await?.network_settings;
    let mut networks = networks.and_then(|settings| settings.networks).into_iter().flatten();
    let gateway = networks.find_map(|(_, network)| network.gateway?.parse().ok());
    Ok(gateway)
}
