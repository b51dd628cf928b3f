//! What removes containers whose owner is gone.

use std::{ffi::OsStr, fs::File, path::Path};

use crate::{
    backstage::Backstage,
    error::{Error, Result},
    shell::{Script, Shell},
};

/// The label of everything that the testbed starts, whose value is its owner's.
pub(crate) const LABEL: &str = "com.leasehold.testbed";

/// A shell that removes every container with a label of its own as soon as it is dropped or this process ends, however
/// that is.
#[derive(Debug)]
pub(crate) struct Reaper {
    /// The label's value.
    name: String,
    /// The engine's command-line client.
    client: String,
    shell: Shell,
}

impl Reaper {
    /// Starts one for an owner of this kind.
    pub(crate) async fn start(threads: &Backstage, owner: &'static str) -> Result<Self> {
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let (label, handle) = (label(&name), threads.clone());
        let shell = threads.block(move || {
            let script = Script {
                text: include_str!("reaper.sh"),
                name: owner,
                arguments: vec![OsStr::new(&label)],
                environment: Vec::new(),
                user: None,
            };
            Shell::start(script, &handle)
        });
        let shell = shell.await?;
        let client = shell.order("client").await?;
        if client == "none" { Err(no_client()) } else { Ok(Self { name, client, shell }) }
    }

    /// Makes sure that it sees a container that is there: one that asks another engine would leave everything behind.
    pub(crate) async fn check(&self) -> Result<()> {
        if self.shell.order("count").await? != "0" {
            return Ok(());
        }
        Err(Error::Engine {
            request: "the testbed's containers".into(),
            reason: "the command `docker` talks to another engine than DOCKER_HOST or the socket leads to; \
                     let DOCKER_HOST name the one to use"
                .into(),
        })
    }

    /// The engine's command-line client, which it removes them with.
    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// What the label says.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The label, as it is asked for.
    pub(crate) fn label(&self) -> String {
        label(&self.name)
    }

    /// The name of one of the containers.
    pub(crate) fn container_name(&self, of: &str) -> String {
        format!("leasehold-{}-{}", self.name, of.to_lowercase())
    }

    /// A folder that goes with the containers.
    pub(crate) fn folder(&self) -> &Path {
        self.shell.folder()
    }

    /// Tells it that no container was being made when its owner went: one look is enough.
    pub(crate) fn nothing_under_way(&self) {
        let _ = File::create(self.folder().join("done"));
    }
}

/// What a machine lacks that has an engine, and no client of it.
pub(crate) fn no_client() -> Error {
    Error::Missing {
        program: "the command `docker`",
        searched: "on PATH, nor was `podman`".into(),
        remedy:
            "install the engine's command-line client: it removes the containers of a test that was killed"
                .into(),
    }
}

fn label(name: &str) -> String {
    format!("{LABEL}={name}")
}
