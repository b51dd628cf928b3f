//! Containers that share one network, as those of a Kubernetes pod do.
//!
//! Every server listens on the same port inside the pod and on this machine's loopback, so an address that a test gives to
//! OpenBao is good for both of them. The pod's network belongs to a container that does nothing: the servers can be
//! killed and started again without anybody's address changing.

mod container;
pub(crate) mod engine;
pub(crate) mod holder;
pub(crate) mod reaper;
mod template;

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
};

use testcontainers::{
    ContainerRequest, GenericImage, ImageExt as _,
    bollard::models::{HostConfig, PortBinding},
    core::{Host, IntoContainerPort as _},
};

pub(crate) use container::{Container, SHOWN, Spec};
use engine::Engine;
use holder::Holder;
use reaper::{LABEL, Reaper};
pub(crate) use template::{DATA, server};

use crate::{
    config::Report,
    error::{Error, Result},
    image::{Choice, Image, split},
    kubernetes::DESKTOP,
};

/// The containers of one testbed.
#[derive(Clone, Debug)]
pub(crate) struct Pod(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    /// The servers that it was made for; whichever version is there of any other.
    images: Vec<Choice>,
    /// The container whose network the others share.
    network: String,
    address: Option<IpAddr>,
    gateway: Option<IpAddr>,
    report: Report,
    // In this order: the container goes, and then the reaper finds nothing that is left.
    holder: Holder<GenericImage>,
    reaper: Arc<Reaper>,
}

impl Pod {
    /// Starts what the containers share, with these ports of the loopback interface.
    pub(crate) async fn start(ports: Vec<u16>, images: Vec<Choice>, report: Report) -> Result<Self> {
        let engine = Engine::connect().await?;
        // Each of these can sleep; the last is a database, whose public image has a shell and more.
        let sleeper_image = images.last().copied().unwrap_or_else(|| Image::Postgres.any());
        let image = sleeper_image.find(&engine, report).await?;
        let reaper = Arc::new(Reaper::start(engine.threads(), "pod").await?);
        let request = sleeper(&image, &reaper, "network", ports);
        Self::around(engine, request, reaper, images, report).await
    }

    /// Starts what the containers of one node share: a network apart from this pod's, that may be changed from inside by
    /// [`Pod::run`]. What it holds goes with the reaper, which somebody else tells that nothing is under way.
    pub(crate) async fn apart(&self, reaper: &Arc<Reaper>, name: &str, port: u16) -> Result<Self> {
        // PostgreSQL's image has no command `ip`.
        let image = self.image(Image::OpenBao).await?;
        let request = sleeper(&image, reaper, &format!("{name}-network"), vec![port]);
        let request = request.with_user("0").with_cap_add("NET_ADMIN");
        Self::around(self.engine().clone(), request, reaper.clone(), self.0.images.clone(), self.report())
            .await
    }

    async fn around(
        engine: Engine,
        sleeper: ContainerRequest<GenericImage>,
        reaper: Arc<Reaper>,
        images: Vec<Choice>,
        report: Report,
    ) -> Result<Self> {
        let holder = Holder::new(engine.threads());
        holder.start(&engine, "the pod", sleeper).await?;
        let network = holder.id().await?;
        reaper.check().await?;
        let (address, gateway) = addresses(&engine, &network).await?;
        Ok(Self(Arc::new(Inner { engine, images, network, address, gateway, report, holder, reaper })))
    }

    /// The address at which containers reach this machine, where the engine runs on it.
    pub(crate) fn gateway(&self) -> Option<IpAddr> {
        self.0.gateway
    }

    /// The address at which other containers reach these.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the engine gave it none.
    pub(crate) fn address(&self) -> Result<IpAddr> {
        self.0.address.ok_or_else(|| Error::Engine {
            request: "the address of a network of containers".into(),
            reason: "it has none".into(),
        })
    }

    /// Runs a shell's command line in the container that has the network.
    pub(crate) async fn run(&self, line: &str) -> Result<()> {
        let command = ["sh", "-c", line].map(str::to_owned).into();
        let ran = self.0.holder.exec(&self.0.engine, command).await?;
        if ran.code == 0 {
            return Ok(());
        }
        let reason = format!("exit status {}\n{}{}", ran.code, ran.stdout, ran.stderr);
        Err(Error::Command { command: line.into(), reason })
    }

    /// The label of its containers, as it is asked for.
    pub(crate) fn label(&self) -> String {
        self.0.reaper.label()
    }

    fn container_name(&self, of: &str) -> String {
        self.0.reaper.container_name(of)
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

    /// The image that a server runs from.
    pub(crate) async fn image(&self, image: Image) -> Result<String> {
        let asked = self.0.images.iter().find(|choice| choice.image == image);
        asked.copied().unwrap_or_else(|| image.any()).find(&self.0.engine, self.0.report).await
    }

    /// Whether it was made for a server.
    pub(crate) fn has(&self, image: Image) -> bool {
        self.0.images.iter().any(|choice| choice.image == image)
    }
}

impl Inner {
    /// Makes a folder that a container can be shown, whoever it runs as; nobody else comes as far as the folder it lies in.
    fn folder(&self, server: &str) -> Result<PathBuf> {
        let folder = self.reaper.folder().join(server.to_lowercase());
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).map_err(Error::file(&folder))?;
        Ok(folder)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.holder.release();
        // Another pod of the same reaper may be on its way.
        if let Some(reaper) = Arc::get_mut(&mut self.reaper) {
            reaper.nothing_under_way();
        }
    }
}

/// A container that does nothing, with ports of the loopback interface.
fn sleeper(image: &str, reaper: &Reaper, of: &str, ports: Vec<u16>) -> ContainerRequest<GenericImage> {
    let (name, tag) = split(image);
    let mut image = GenericImage::new(name, tag).with_entrypoint("sleep");
    for port in &ports {
        image = image.with_exposed_port(port.tcp());
    }
    // Inside and outside they are the same.
    let publish = move |host: &mut HostConfig| {
        publish(host, ports.iter().map(|port| (*port, port.to_string())));
    };
    image
        .with_cmd(["infinity"])
        .with_container_name(reaper.container_name(of))
        // From here a container reaches this machine, where the network's gateway is not it. The others share this file.
        .with_host(DESKTOP, Host::HostGateway)
        .with_label(LABEL, reaper.name())
        .with_host_config_modifier(publish)
}

/// Publishes ports on the loopback interface and nowhere else; the port outside is 0 for any.
pub(crate) fn publish(host: &mut HostConfig, ports: impl IntoIterator<Item = (u16, String)>) {
    let binding = |(inside, outside)| {
        let binding = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(outside) };
        (format!("{inside}/tcp"), Some(vec![binding]))
    };
    host.publish_all_ports = None;
    host.port_bindings = Some(ports.into_iter().map(binding).collect::<HashMap<_, _>>());
}

/// A container's own address, and its gateway's.
async fn addresses(engine: &Engine, container: &str) -> Result<(Option<IpAddr>, Option<IpAddr>)> {
    let networks = engine.inspect(container, "the pod's network").await?.network_settings;
    let networks = networks.and_then(|settings| settings.networks).into_iter().flatten();
    let parsed = |text: Option<String>| text?.parse().ok();
    let mut both = networks.map(|(_, network)| (parsed(network.ip_address), parsed(network.gateway)));
    Ok(both.find(|(_, gateway)| gateway.is_some()).unwrap_or_default())
}
