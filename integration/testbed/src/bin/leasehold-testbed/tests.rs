//! `cargo testbed test`.

use std::{
    env,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use leasehold_testbed::{Config, Image, Launcher, Product};

use crate::{Setup, output};

/// Options of `cargo testbed test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leaves the doc tests out, which also stay out where there are arguments for the test runner.
    #[arg(long)]
    no_doc: bool,
    /// What to hand to the test runner: a filter, `--package leasehold-renewal`, ...
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the tests, once for each server of secrets that is at hand.
pub(crate) fn run(options: &Options, setup: Setup) -> ExitCode {
    output::verdict(run_all(options, setup))
}

fn run_all(options: &Options, setup: Setup) -> Result<()> {
    let (launcher, products) = decide(setup)?;
    let runner = Runner::find(launcher, setup);
    for &product in &products {
        eprintln!("testing with {} as {launcher}", product.name());
        runner.tests(product, &options.arguments)?;
    }
    if options.arguments.is_empty() && !options.no_doc {
        runner.doc_tests(products[0])?;
    }
    Ok(())
}

/// One launcher for all tests, and the servers to test with: the one that was asked for, else every one whose image is
/// there or, of OpenBao, can be had. As a process it is OpenBao, unless Vault is asked for.
fn decide(setup: Setup) -> Result<(Launcher, Vec<Product>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = setup.asks_for_a_product();
        let first = setup.product()?;
        let found = with(setup, first).await;
        if asked || matches!(found, Ok(Launcher::Processes)) {
            return found.map(|launcher| (launcher, vec![first]));
        }
        let vault_is_here = matches!(Image::Vault.at_hand().await, Ok(Some(_)));
        match (found, vault_is_here) {
            (Ok(launcher), true) => Ok((launcher, vec![first, Product::Vault])),
            (Ok(launcher), false) => {
                eprintln!("{}'s image is not here: not tested with it", Product::Vault.name());
                Ok((launcher, vec![first]))
            }
            (Err(error), true) => {
                eprintln!("{error:#}: not tested with {}", first.name());
                Ok((with(setup, Product::Vault).await?, vec![Product::Vault]))
            }
            (Err(error), false) => Err(error),
        }
    })
}

/// What runs the servers, with this one among them.
async fn with(setup: Setup, product: Product) -> Result<Launcher> {
    let config = Config { mariadb: true, redis: true, rabbitmq: true, ..setup.config() };
    setup.build_missing(&setup.images_with(&config, product)?).await?;
    let config = Config { versions: config.versions.or_from_env()?, ..config };
    Ok(setup.launcher()?.decide(&config.images(product), |line| eprintln!("{line}")).await?)
}

struct Runner {
    cargo: String,
    has_nextest: bool,
    launcher: Launcher,
    setup: Setup,
    everything: Vec<&'static str>,
}

impl Runner {
    /// nextest where it is installed.
    fn find(launcher: Launcher, setup: Setup) -> Self {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let nextest = Command::new(&cargo)
            .args(["nextest", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        Self {
            cargo,
            has_nextest: nextest.is_ok_and(|status| status.success()),
            launcher,
            setup,
            everything: everything(),
        }
    }

    fn tests(&self, product: Product, more: &[String]) -> Result<()> {
        let runner: &[&str] = if self.has_nextest { &["nextest", "run"] } else { &["test", "--all-targets"] };
        self.run(product, &[runner, &self.everything].concat(), more)
    }

    /// nextest does not know them.
    fn doc_tests(&self, product: Product) -> Result<()> {
        self.run(product, &[&["test", "--doc"], &self.everything[..]].concat(), &[])
    }

    fn run(&self, product: Product, arguments: &[&str], more: &[String]) -> Result<()> {
        eprintln!("cargo {} {}", arguments.join(" "), more.join(" "));
        let mut command = Command::new(&self.cargo);
        command.args(arguments).args(more);
        command
            .envs(self.setup.environment())
            .env(Launcher::VARIABLE, self.launcher.to_string())
            .env(Product::VARIABLE, product.to_string());
        let status = command.status().with_context(|| format!("cannot run {}", self.cargo))?;
        ensure!(status.success(), "the tests with {} as {} failed", product.name(), self.launcher);
        Ok(())
    }
}

/// The features are those that `integration/everything` asks for, so that nothing is compiled twice; and diesel's MySQL
/// connections, where the system has the library that they link.
fn everything() -> Vec<&'static str> {
    let has = |library| {
        let mut pkg_config = Command::new("pkg-config");
        pkg_config.args(["--exists", library]).stdout(Stdio::null()).stderr(Stdio::null());
        pkg_config.status().is_ok_and(|status| status.success())
    };
    if has("libmariadb") || has("mysqlclient") {
        return vec!["--workspace", "--features", "leasehold-diesel/mysql"];
    }
    eprintln!(
        "MySQL's or MariaDB's client library is not here: the feature `mysql` of leasehold-diesel is not tested \
         (Debian: apt-get install libmariadb-dev pkg-config)"
    );
    vec!["--workspace"]
}
