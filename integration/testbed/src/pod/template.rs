//! Images of databases that are filled once, and started from for every testbed.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use testcontainers::bollard::{
    Docker, models::ContainerConfig, query_parameters::CommitContainerOptionsBuilder,
};

use super::{Container, Pod, Spec};
use crate::{
    error::{Error, Result},
    image::{Image, split},
    locate::{cache, locked},
    postgres::password,
    server::{Server, Superuser},
    site::Site,
};

/// Where a template keeps its data: not where the image declares a volume, which is not part of what is committed.
pub(crate) const DATA: &str = "/var/lib/leasehold";

/// The label with the superuser's password: of servers that listen on loopback, and hold nothing of anybody's.
const PASSWORD: &str = "com.leasehold.testbed.superuser";

/// An image whose data folder is made and filled.
#[derive(Debug)]
struct Template {
    /// The image's digest: another checkout's testbed may commit another image by the same name.
    image: String,
    /// The superuser's password.
    password: SecretString,
}

/// A database that is not started yet, whose image has its data, and its superuser's way in.
///
/// `spec` says how it is run from an image; `make` runs it for the first time, as [`prepare`] asks.
pub(crate) async fn server<T, F: Future<Output = Result<(Arc<Container>, T)>>>(
    site: &Site,
    pod: &Pod,
    of: Image,
    revision: u32,
    spec: impl FnOnce(String) -> Spec,
    make: impl FnOnce(String, SecretString) -> F,
) -> Result<(Server, Superuser)> {
    let template = prepare(pod, of, revision, make).await?;
    let container = pod.container(spec(template.image))?;
    let server = Server::new(of.name(), Arc::new(container), &site.backstage);
    Ok((server, Superuser::Password(template.password)))
}

/// Returns the template of a database; if it is not there, what is committed of a container that was filled and stopped.
///
/// `make` gets the image to start from and the superuser's password, and returns the stopped container and what keeps it.
async fn prepare<T, F: Future<Output = Result<(Arc<Container>, T)>>>(
    pod: &Pod,
    of: Image,
    revision: u32,
    make: impl FnOnce(String, SecretString) -> F,
) -> Result<Template> {
    let base = pod.image(of).await?;
    let id = pod.engine().image(&base).await?.map(|image| image.id).unwrap_or_default();
    let id: String = id.trim_start_matches("sha256:").chars().take(12).collect();
    let repository = format!("localhost/leasehold/{}-template", of.name().to_lowercase());
    let image = format!("{repository}:{id}-{revision}");
    if let Some(template) = find(pod, &image).await? {
        return Ok(template);
    }
    let folder = cache().join("templates");
    let _lock = pod.engine().threads().block(move || locked(&folder)).await?;
    if let Some(template) = find(pod, &image).await? {
        return Ok(template);
    }
    (pod.report())(&format!("making {image} of {base}, once"));
    let password = SecretString::from(password());
    let (container, made) = make(base, password.clone()).await?;
    let id = commit(pod, container.id().await?, &image, &password).await?;
    drop((container, made));
    Ok(Template { image: id, password })
}

async fn find(pod: &Pod, image: &str) -> Result<Option<Template>> {
    let Some(mut found) = pod.engine().image(image).await? else { return Ok(None) };
    match found.labels.remove(PASSWORD) {
        Some(password) => Ok(Some(Template { image: found.id, password: password.into() })),
        None => Err(Error::Engine {
            request: format!("the image {image}"),
            reason: "it is not one of the testbed's; remove it".into(),
        }),
    }
}

/// Returns the digest of what was committed.
async fn commit(pod: &Pod, container: String, image: &str, password: &SecretString) -> Result<String> {
    let (repository, tag) = split(image);
    let options = CommitContainerOptionsBuilder::new()
        .container(&container)
        .repo(&repository)
        .tag(&tag)
        .changes(&format!("LABEL {PASSWORD}={}", password.expose_secret()))
        .build();
    let commit = |docker: Docker| async move {
        docker.commit_container(options, ContainerConfig::default()).await.map(|image| image.id)
    };
    pod.engine().ask(&format!("commit {image}"), commit).await
}
