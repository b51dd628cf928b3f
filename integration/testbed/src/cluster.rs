//! A real Kubernetes cluster.

mod kubectl;
mod log;

use std::time::Duration;

use testcontainers::{
    ContainerRequest, ImageExt as _,
    bollard::models::{ContainerInspectResponse, HostConfig},
};
use testcontainers_modules::k3s::{K3s, KUBE_SECURE_PORT};

use crate::{
    Testbed,
    backstage::poll,
    config::Report,
    error::{Error, Result},
    image::{Image, split},
    kubernetes::API_AUDIENCE,
    pod::{
        engine::Engine,
        holder::Holder,
        publish,
        reaper::{LABEL, Reaper},
    },
};
use kubectl::Kubectl;
use log::Log;

/// How long a cluster may take to be ready, its certificates and its node included.
const START: Duration = Duration::from_secs(180);

/// How long the API server may take to act on a binding.
const BINDING: Duration = Duration::from_secs(20);

/// A Kubernetes cluster of one node in a container, with real service accounts, TokenRequest and TokenReview.
///
/// It is spoken to by the `kubectl` inside the container, as its administrator. Dropping it removes the container and waits
/// until that is done. The same happens, without anybody waiting, when the process ends in any other way.
#[derive(Debug)]
pub struct Cluster {
    port: u16,
    inside: String,
    authority: String,
    kubectl: Kubectl,
    // In this order: the container goes, and then the reaper finds nothing that is left.
    holder: Holder<K3s>,
    reaper: Reaper,
}

impl Cluster {
    /// The audience of tokens for the API server itself, which a token needs to review itself.
    pub const API_AUDIENCE: &str = API_AUDIENCE;

    /// Starts a cluster where there can be one. Where not, because no engine answers or the image is not there, the answer is
    /// `None` and `report` is told why. An image is pulled only if the variable of [`Image::K3s`] names it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if the image that the variable names cannot be pulled, [`Error::Server`] if the cluster does not get
    /// ready within three minutes, [`Error::Engine`] if the engine fails.
    pub async fn start(report: Report) -> Result<Option<Self>> {
        Self::start_within(START, report).await
    }

    /// As [`start`](Self::start), with another time to get ready in.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub async fn start_within(patience: Duration, report: Report) -> Result<Option<Self>> {
        let engine = match Engine::connect().await {
            Ok(engine) => engine,
            Err(error) => {
                report(&format!("no cluster: {error}"));
                return Ok(None);
            }
        };
        let Some(image) = image(&engine, report).await? else { return Ok(None) };
        // Boxed: a caller's own futures would otherwise hold all of ours.
        Box::pin(Self::run(&engine, &image, patience)).await.map(Some)
    }

    async fn run(engine: &Engine, image: &str, patience: Duration) -> Result<Self> {
        let reaper = Reaper::start(engine.threads(), "k3s").await?;
        let holder = Holder::new(engine.threads());
        let log = Log::default();
        // A node needs every privilege. The stand-in of a test needs none, and says so: not every engine may give them.
        let found = engine.image(image).await?;
        let label = found.and_then(|mut image| image.labels.remove(PRIVILEGED));
        let privileged = label.as_deref() != Some("false");
        let request =
            request(image, &reaper, &log).with_privileged(privileged).with_startup_timeout(patience);
        if let Err(error) = holder.start(engine, Image::K3s.name(), request).await {
            let reason = format!("did not get ready, for which it has {patience:?}: {error}");
            return Err(Error::Server { server: Image::K3s.name(), reason, log: log.tail() });
        }
        reaper.check().await?;
        let (port, inside) = addresses(engine, holder.id().await?).await?;
        let kubectl = Kubectl::new(engine, &holder);
        let authority = kubectl.run(&["config", "view", "--raw", "--output", AUTHORITY]).await?;
        Ok(Self { port, inside, authority, kubectl, holder, reaper })
    }

    /// The API server's address on this machine.
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The API server's address as the servers of a testbed reach it. Its certificate is good for both addresses.
    pub fn address_for(&self, testbed: &Testbed) -> String {
        match testbed.container_label() {
            None => self.address(),
            Some(_) => format!("https://{}:{}", self.inside, KUBE_SECURE_PORT.as_u16()),
        }
    }

    /// The certificate of the authority that the API server's own is of, in PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The label of its container, `name=value`.
    pub fn container_label(&self) -> String {
        self.reaper.label()
    }

    /// Makes a namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] with what `kubectl` wrote if the cluster refuses, [`Error::Engine`] if it cannot be asked.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        self.kubectl.run(&["create", "namespace", name]).await.map(drop)
    }

    /// Makes a service account.
    ///
    /// # Errors
    ///
    /// As for [`create_namespace`](Self::create_namespace).
    pub async fn create_service_account(&self, namespace: &str, name: &str) -> Result<()> {
        self.kubectl.run(&["create", "serviceaccount", name, "--namespace", namespace]).await.map(drop)
    }

    /// Deletes a service account. The API server goes on accepting a token that it has seen within the last ten seconds.
    ///
    /// # Errors
    ///
    /// As for [`create_namespace`](Self::create_namespace).
    pub async fn delete_service_account(&self, namespace: &str, name: &str) -> Result<()> {
        self.kubectl.run(&["delete", "serviceaccount", name, "--namespace", namespace]).await.map(drop)
    }

    /// Lets a service account review tokens, by the role `system:auth-delegator`, and waits until it may.
    ///
    /// # Errors
    ///
    /// As for [`create_namespace`](Self::create_namespace).
    pub async fn let_review(&self, namespace: &str, name: &str) -> Result<()> {
        let binding = format!("{namespace}-{name}-reviews");
        let account = format!("--serviceaccount={namespace}:{name}");
        let role = "--clusterrole=system:auth-delegator";
        self.kubectl.run(&["create", "clusterrolebinding", &binding, role, &account]).await?;
        let (kubectl, user) =
            (self.kubectl.clone(), format!("--as=system:serviceaccount:{namespace}:{name}"));
        let allowed = self.kubectl.engine().run(async move {
            poll(BINDING, || async {
                let asked = kubectl.run(&["auth", "can-i", "create", REVIEWS, &user]).await;
                Ok(asked.ok().filter(|answer| answer.trim() == "yes"))
            })
            .await
        });
        match allowed.await? {
            Some(_) => Ok(()),
            None => Err(Error::Unanswered {
                request: format!("{binding}, whether it is in force"),
                reason: format!("not within {BINDING:?}"),
            }),
        }
    }

    /// Asks for a token of a service account by TokenRequest, as the kubelet does for a pod. Without audiences it is for the
    /// API server itself. The API server gives none of less than ten minutes.
    ///
    /// # Errors
    ///
    /// As for [`create_namespace`](Self::create_namespace).
    pub async fn token(
        &self,
        namespace: &str,
        name: &str,
        audiences: &[&str],
        lasts: Duration,
    ) -> Result<String> {
        let lasts = format!("{}s", lasts.as_secs());
        let mut arguments = vec!["create", "token", name, "--namespace", namespace, "--duration", &lasts];
        arguments.extend(audiences.iter().flat_map(|audience| ["--audience", audience]));
        Ok(self.kubectl.run(&arguments).await?.trim().into())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.holder.release();
        self.reaper.nothing_under_way();
    }
}

/// Where the administrator's configuration has the authority; no request is needed for it.
const AUTHORITY: &str =
    r#"go-template={{range .clusters}}{{index .cluster "certificate-authority-data" | base64decode}}{{end}}"#;

/// The label of an image that needs no privileges, with the value `false`.
const PRIVILEGED: &str = "com.leasehold.testbed.privileged";

const REVIEWS: &str = "tokenreviews.authentication.k8s.io";

/// The image to run from; `None` is told to `report`.
async fn image(engine: &Engine, report: Report) -> Result<Option<String>> {
    if Image::K3s.named().is_some() {
        return Image::K3s.find(engine, report).await.map(Some);
    }
    let public = Image::K3s.public();
    if engine.has_image(public).await? {
        return Ok(Some(public.into()));
    }
    report(&format!(
        "no cluster: the image {public} is not here; pull it, or name one in {}",
        Image::K3s.variable()
    ));
    Ok(None)
}

fn request(image: &str, reaper: &Reaper, log: &Log) -> ContainerRequest<K3s> {
    let (name, tag) = split(image);
    let port = KUBE_SECURE_PORT.as_u16();
    let configure = move |host: &mut HostConfig| {
        // Of the ports that the image exposes, this one; any port outside.
        publish(host, [(port, "0".into())]);
        // Where a node keeps its sockets. As k3s has it for itself in a container.
        host.tmpfs = Some(["/run", "/var/run"].map(|folder| (folder.into(), String::new())).into());
    };
    let log = log.clone();
    K3s::default()
        .with_name(name)
        .with_tag(tag)
        // What is asked of it is answered by the API server alone: nothing need be pulled for pods.
        .with_cmd([
            "server",
            "--snapshotter=native",
            "--disable=coredns,local-storage,metrics-server,servicelb,traefik",
        ])
        .with_userns_mode("host")
        .with_container_name(reaper.container_name(Image::K3s.name()))
        .with_label(LABEL, reaper.name())
        .with_host_config_modifier(configure)
        .with_log_consumer(move |frame: &testcontainers::core::logs::LogFrame| log.add(frame.bytes()))
}

/// The API server's port on loopback, and the container's own address.
async fn addresses(engine: &Engine, container: String) -> Result<(u16, String)> {
    let seen = engine.inspect(&container, "the cluster's addresses").await?;
    addresses_in(seen).ok_or_else(|| Error::Engine {
        request: "the cluster's addresses".into(),
        reason: "it has none, or no published port".into(),
    })
}

fn addresses_in(seen: ContainerInspectResponse) -> Option<(u16, String)> {
    let settings = seen.network_settings?;
    let bindings = settings.ports?.remove(&KUBE_SECURE_PORT.to_string())??;
    let port = bindings.into_iter().find_map(|binding| binding.host_port?.parse().ok())?;
    let networks = settings.networks?.into_values();
    let address = networks.filter_map(|network| network.ip_address).find(|address| !address.is_empty())?;
    Some((port, address))
}
