//! `cargo testbed up`.

use std::{
    fmt::Write as _, fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use leasehold_testbed::{Config, Image, PoolMode, Testbed};

use crate::{Setup, interrupt::Interrupt, output};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Starts MariaDB as well.
    #[arg(long)]
    mariadb: bool,
    /// Starts Redis as well.
    #[arg(long)]
    redis: bool,
    /// Starts RabbitMQ as well.
    #[arg(long)]
    rabbitmq: bool,
    /// Starts PgBouncer as well, in front of PostgreSQL: `session` unless it is `transaction`.
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "session")]
    pgbouncer: Option<PoolMode>,
}

/// Starts the servers, says how to use them, and keeps them until Ctrl-C.
pub(crate) async fn run(options: &Options, setup: Setup, interrupt: Interrupt) -> ExitCode {
    output::verdict(keep(options, setup, &interrupt).await)
}

async fn keep(options: &Options, setup: Setup, interrupt: &Interrupt) -> Result<()> {
    let &Options { mariadb, redis, rabbitmq, pgbouncer } = options;
    let config = Config { mariadb, redis, rabbitmq, pgbouncer, ..setup.config() };
    let product = setup.product()?;
    let images = config.images(product);
    setup.build_missing(&images).await?;
    let servers = listed(&images);
    eprintln!("starting {servers}");
    let testbed = tokio::select! {
        testbed = Testbed::start(config) => testbed?,
        () = interrupt.asked() => return Ok(()),
    };
    let mut environment = String::new();
    for (name, value) in testbed.environment() {
        writeln!(environment, "export {name}='{value}'")?;
    }
    let file = leasehold_testbed::target_folder().join("testbed").join("env");
    write(&file, &environment).with_context(|| format!("writing {}", file.display()))?;
    let (client, shown) = (testbed.openbao().client().await?, file.display());
    output::line(&format!(
        "{servers} are up until Ctrl-C. In another terminal:\n\n  source {shown}\n\n{environment}"
    ));
    output::line("To try:");
    output::line("  cargo run --package quickstart    # rows, read by a user that did not exist before");
    output::line("  cargo testbed demo --external --query 'SELECT count(*) FROM measurements'");
    let revoke = format!("{client} lease revoke -prefix database/creds/pipeline");
    output::line(&format!("  {revoke}    # and watch the demo"));
    if pgbouncer.is_some() {
        output::line(
            "  DATABASE_URL=$PGBOUNCER_URL cargo run --package quickstart    # the same, through PgBouncer",
        );
    }
    interrupt.asked().await;
    // Another `up` may have written its own meanwhile.
    if std::fs::read_to_string(&file).is_ok_and(|now| now == environment) {
        drop(std::fs::remove_file(file));
    }
    Ok(())
}

/// The servers' names, as a sentence has them.
fn listed(servers: &[Image]) -> String {
    let names: Vec<&str> = servers.iter().map(|server| server.name()).collect();
    match names.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // It holds the root token.
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())
}
