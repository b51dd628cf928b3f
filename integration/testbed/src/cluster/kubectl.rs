//! The cluster's command-line client.

use testcontainers_modules::k3s::K3s;

use crate::{
    error::{Error, Result},
    pod::{engine::Engine, holder::Holder},
};

/// The `kubectl` inside a cluster's container.
#[derive(Clone, Debug)]
pub(super) struct Kubectl {
    engine: Engine,
    holder: Holder<K3s>,
}

impl Kubectl {
    pub(super) fn new(engine: &Engine, holder: &Holder<K3s>) -> Self {
        Self { engine: engine.clone(), holder: holder.clone() }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns what it wrote to its standard output; an error has what it wrote to the other.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let command: Vec<String> =
            std::iter::once("kubectl").chain(arguments.iter().copied()).map(str::to_owned).collect();
        let line = command.join(" ");
        let ran = self.holder.exec(&self.engine, command).await?;
        if ran.code == 0 {
            return Ok(ran.stdout);
        }
        // What the engine says where there is no such program comes as its output.
        let said = if ran.stderr.trim().is_empty() { &ran.stdout } else { &ran.stderr };
        Err(Error::Command { command: line, reason: format!("status {}: {}", ran.code, said.trim()) })
    }
}
