//! The container engine, through its command line.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::{server::Server, steps::Steps};

/// The label with a server's own version.
pub(crate) const VERSION: &str = "org.opencontainers.image.version";
/// The label with what an image was made of.
pub(crate) const REVISION: &str = "com.leasehold.testbed.images";

/// Fails when no engine answers.
pub(crate) async fn answers(steps: &Steps) -> Result<()> {
    let answer = steps.output(docker(&["version", "--format", "{{.Server.Version}}"])).await;
    answer
        .context("no container engine answers `docker version`; start one, or let DOCKER_HOST name one")
        .map(drop)
}

/// An image's labels; `None` where there is no such image.
pub(crate) async fn labels(image: &str, steps: &Steps) -> Result<Option<HashMap<String, String>>> {
    let inspect = docker(&["image", "inspect", "--format", "{{json .Config.Labels}}", image]);
    match steps.output(inspect).await {
        // An image without labels has `null`.
        Ok(labels) => serde_json::from_str::<Option<_>>(&labels)
            .map(|labels| Some(labels.unwrap_or_default()))
            .with_context(|| format!("the labels of {image}")),
        Err(_) if !steps.were_stopped() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an image was made of; `None` where there is no such image, or it is none of ours.
pub(crate) async fn revision(image: &str, steps: &Steps) -> Result<Option<String>> {
    Ok(labels(image, steps).await?.and_then(|mut labels| labels.remove(REVISION)))
}

/// Builds an image from a folder with a Dockerfile; only the whole image gets the name.
pub(crate) async fn build(
    server: Server,
    context: &Path,
    labels: &[(&str, String)],
    anew: bool,
    steps: &Steps,
) -> Result<()> {
    let image = server.tag();
    let before = id(image, steps).await;
    let mut command = docker(&["build", "--force-rm", "--tag", image]);
    if anew {
        command.arg("--no-cache");
    }
    for (name, value) in labels {
        command.arg("--label").arg(format!("{name}={value}"));
    }
    command.arg(context);
    steps.run(&format!("{server}: building {image}"), command).await?;
    remove_replaced(before, image, steps).await;
    Ok(())
}

/// Makes an image of one layer from an archive.
pub(crate) async fn import(
    archive: &Path,
    image: &str,
    labels: &[(&str, String)],
    what: &str,
    steps: &Steps,
) -> Result<()> {
    let before = id(image, steps).await;
    let mut command = docker(&["import"]);
    for (name, value) in labels {
        command.arg("--change").arg(format!("LABEL {name}={value}"));
    }
    command.arg(archive).arg(image);
    steps.run(what, command).await?;
    remove_replaced(before, image, steps).await;
    Ok(())
}

async fn id(image: &str, steps: &Steps) -> Option<String> {
    let inspect = docker(&["image", "inspect", "--format", "{{.Id}}", image]);
    steps.output(inspect).await.ok().map(|id| id.trim().to_owned())
}

/// Removes the image that had this name before, unless somebody still uses it: nobody would find it again.
async fn remove_replaced(before: Option<String>, image: &str, steps: &Steps) {
    if let Some(before) = before
        && id(image, steps).await.is_some_and(|now| now != before)
    {
        let _ = steps.output(docker(&["image", "rm", &before])).await;
    }
}

fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}
