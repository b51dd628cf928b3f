//! The options that every command has.

use std::{env, process::Command};

use anyhow::{Context as _, Result, ensure};
use leasehold_testbed::{Choice, Config, Launcher, Product, Version, Versions, survey};

use crate::images::{Server, Suite};

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
    /// OpenBao's version, such as `2.6.2`. Without it, the variable LEASEHOLD_VERSION_OPENBAO; without that, the newest.
    #[arg(long, global = true, value_name = "VERSION")]
    pub(crate) openbao: Option<Version>,
    /// PostgreSQL's version, such as `18`, as a container. Without it, the variable LEASEHOLD_VERSION_POSTGRES; without that, the
    /// one that is there.
    #[arg(long, global = true, value_name = "VERSION")]
    postgres: Option<Version>,
}

impl Setup {
    /// The configuration of a testbed, which says on stderr what takes a while.
    pub(crate) fn config(self) -> Config {
        Config {
            launcher: self.launcher,
            product: self.product,
            versions: self.versions(),
            report: |line| eprintln!("{line}"),
            ..Config::default()
        }
    }

    fn versions(self) -> Versions {
        Versions { openbao: self.openbao, postgres: self.postgres, ..Versions::default() }
    }

    /// The images that a testbed needs, whatever runs it.
    pub(crate) fn images(self, config: &Config) -> Result<Vec<Choice>> {
        self.images_with(config, self.product()?)
    }

    /// As [`Setup::images`], with another server of secrets.
    pub(crate) fn images_with(self, config: &Config, product: Product) -> Result<Vec<Choice>> {
        let config = Config { versions: config.versions.or_from_env()?, ..config.clone() };
        Ok(match self.launcher()? {
            Launcher::Containers => config.images(product),
            _ => config.images_beside_processes(product),
        })
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

    /// Builds the images that are neither here nor can be pulled.
    pub(crate) async fn build_missing(self, images: &[Choice]) -> Result<()> {
        if images.is_empty() {
            return Ok(());
        }
        survey::engine().await?;
        let mut missing: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for choice in images {
            let server = Server::of(choice.image);
            let server = server.filter(|_| choice.version.is_some() || choice.image.named().is_none());
            let Some(server) = server else { continue };
            if choice.obtain(|line| eprintln!("{line}")).await.is_ok() {
                continue;
            }
            let options = build_options(server, choice.version)?;
            match missing.iter_mut().find(|(others, _)| *others == options) {
                Some((_, servers)) => servers.push(server.to_string()),
                None => missing.push((options, vec![server.to_string()])),
            }
        }
        for (options, servers) in missing {
            // Ctrl-C means something else there: nothing half-built stays.
            let built =
                Command::new(env::current_exe()?).arg("images").args(&servers).args(&options).status()?;
            ensure!(built.success(), "there are no images of {}", servers.join(", "));
        }
        Ok(())
    }

    pub(crate) fn environment(self) -> Vec<(&'static str, String)> {
        let launcher = self.launcher.map(|launcher| (Launcher::VARIABLE, launcher.to_string()));
        let product = self.product.map(|product| (Product::VARIABLE, product.to_string()));
        let versions = self.versions();
        let versions = Versions::VARIABLES.into_iter().filter_map(|(variable, image)| {
            versions.of(image).map(|version| (variable, version.to_string()))
        });
        launcher.into_iter().chain(product).chain(versions).collect()
    }
}

/// What to say to `cargo testbed images` to have a version of a server.
fn build_options(server: Server, version: Option<Version>) -> Result<Vec<String>> {
    let Some(version) = version else { return Ok(Vec::new()) };
    if server == Server::Openbao {
        return Ok(vec!["--openbao".into(), version.to_string()]);
    }
    let suite = Suite::with(server, Some(version));
    let suite = suite.with_context(|| format!("no suite of Debian's is known to have {server} {version}"))?;
    Ok(vec!["--suite".into(), suite.to_string()])
}
