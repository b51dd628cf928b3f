//! The container engine, through its command line.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::steps::Steps;

/// The label with a server's own version.
pub(crate) const VERSION: &str = "org.opencontainers.image.version";
/// The label with what an image was made of.
pub(crate) const REVISION: &str = "com.leasehold.testbed.images";
/// The label with the suite of Debian's that an image is made of, where that is not Debian 12.
pub(crate) const SUITE: &str = "com.leasehold.testbed.suite";

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

/// The names of the images that have these labels, each `name` or `name=value`.
pub(crate) async fn labelled(labels: &[String], steps: &Steps) -> Result<Vec<String>> {
    let mut list = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    for label in labels {
        list.arg("--filter").arg(format!("label={label}"));
    }
    Ok(steps.output(list).await?.lines().map(str::to_owned).collect())
}

/// Removes an image by its name, unless somebody still uses it.
pub(crate) async fn remove(image: &str, steps: &Steps) {
    let _ = steps.output(docker(&["image", "rm", image])).await;
}

/// What a command writes that runs in an image, without a network.
pub(crate) async fn inside(image: &str, command: &[&str], steps: &Steps) -> Result<String> {
    let mut run = docker(&["run", "--rm", "--network", "none", "--entrypoint", command[0], image]);
    run.args(&command[1..]);
    steps.output(run).await
}

/// Says what an image has become.
pub(crate) async fn show(what: &str, image: &str, version: &str, steps: &Steps) -> Result<()> {
    let size = steps.output(docker(&["image", "inspect", "--format", "{{.Size}}", image])).await?;
    let megabytes = size.trim().parse::<u64>().unwrap_or_default() / 1_000_000;
    eprintln!("{what}: {image} has {version}, {megabytes} MB");
    Ok(())
}

/// What an image is built from.
pub(crate) struct Build<'a> {
    /// Whose it is, in messages.
    pub(crate) what: &'a str,
    /// The name that it is given, once it is whole.
    pub(crate) image: &'a str,
    /// A folder with a Dockerfile.
    pub(crate) context: &'a Path,
    pub(crate) labels: &'a [(&'a str, String)],
    pub(crate) arguments: &'a [(&'a str, String)],
    /// Whether it fetches packages, for which it has this machine's network.
    pub(crate) fetches: bool,
    /// Whether nothing of an earlier build is taken.
    pub(crate) anew: bool,
}

/// Builds an image from a folder with a Dockerfile; only the whole image gets the name.
pub(crate) async fn build(build: &Build<'_>, steps: &Steps) -> Result<()> {
    let &Build { what, image, .. } = build;
    let before = id(image, steps).await;
    let mut command = docker(&["build", "--force-rm", "--tag", image]);
    if build.anew {
        command.arg("--no-cache");
    }
    if build.fetches {
        command.args(["--network", "host"]);
    }
    for (name, value) in build.arguments {
        command.arg("--build-arg").arg(format!("{name}={value}"));
    }
    for (name, value) in build.labels {
        command.arg("--label").arg(format!("{name}={value}"));
    }
    command.arg(build.context);
    steps.run(&format!("{what}: building {image}"), command).await?;
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
