//! The options that every command has.

use std::{env, process::Command};

use anyhow::{Result, ensure};
use leasehold_testbed::{Config, Image, Launcher, Product, survey};

use crate::images::Server;

/// Which servers, and what runs them.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Setup {
    /// What runs the servers: `processes` of this machine, `containers`, or `auto`, which is containers where an engine
    /// answers and the images are there or can be pulled.
    /// Without it, the variable LEASEHOLD_LAUNCHER; without that, processes.
    #[arg(long, global = true, value_name = "LAUNCHER")]
    launcher: Option<Launcher>,
    /// Which server hands out secrets: `openbao` or `vault`.
    /// Without it, the variable LEASEHOLD_PRODUCT.
    #[arg(long, global = true, value_name = "PRODUCT")]
    product: Option<Product>,
}

impl Setup {
    /// The configuration of a testbed, which says on stderr what takes a while.
    pub(crate) fn config(self) -> Config {
        Config {
            launcher: self.launcher,
            product: self.product,
            report: |line| eprintln!("{line}"),
            ..Config::default()
        }
    }

    pub(crate) fn launcher(self) -> Result<Launcher> {
        Ok(self.launcher.map_or_else(Launcher::from_env, Ok)?)
    }

    /// Whether one of the two was asked for, on the command line or in the environment.
    pub(crate) fn asks_for_a_product(self) -> bool {
        let variable = env::var_os(Product::VARIABLE).filter(|value| !value.is_empty());
        self.product.is_some() || variable.is_some()
    }

    pub(crate) fn product(self) -> Result<Product> {
        Ok(self.product.map_or_else(Product::from_env, Ok)?)
    }

    /// Where containers are asked for, builds the images that are neither here nor can be pulled.
    pub(crate) async fn build_missing(self, images: &[Image]) -> Result<()> {
        if self.launcher()? != Launcher::Containers {
            return Ok(());
        }
        survey::engine().await?;
        let mut missing = Vec::new();
        for &image in images {
            let server = Server::of(image).filter(|_| image.named().is_none());
            if let Some(server) = server
                && image.obtain(|line| eprintln!("{line}")).await.is_err()
            {
                missing.push(server.to_string());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        // Ctrl-C means something else there: nothing half-built stays.
        let built = Command::new(env::current_exe()?).arg("images").args(&missing).status()?;
        ensure!(built.success(), "there are no images of {}", missing.join(", "));
        Ok(())
    }

    pub(crate) fn environment(self) -> Vec<(&'static str, String)> {
        let launcher = self.launcher.map(|launcher| (Launcher::VARIABLE, launcher.to_string()));
        let product = self.product.map(|product| (Product::VARIABLE, product.to_string()));
        launcher.into_iter().chain(product).collect()
    }
}
