//! `cargo testbed up`.

use std::{
    fmt::Write as _, fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use leasehold_testbed::{Choice, Config, Nodes, PoolMode, Testbed, Version, Versions};

use crate::{Setup, interrupt::Interrupt, output};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Starts MariaDB as well, of a version if one is named, such as `11.8`.
    #[arg(long, value_name = "VERSION")]
    mariadb: Option<Option<Version>>,
    /// Starts MySQL as well, as a container.
    #[arg(long, value_name = "VERSION")]
    mysql: Option<Option<Version>>,
    /// Starts Redis as well, of a version if one is named, such as `8.0`.
    #[arg(long, value_name = "VERSION")]
    redis: Option<Option<Version>>,
    /// Starts Valkey as well, as a container.
    #[arg(long, value_name = "VERSION")]
    valkey: Option<Option<Version>>,
    /// Starts RabbitMQ as well, of a version if one is named, such as `4.3`.
    #[arg(long, value_name = "VERSION")]
    rabbitmq: Option<Option<Version>>,
    /// Starts PgBouncer as well, in front of PostgreSQL: `session` unless it is `transaction`.
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "session")]
    pgbouncer: Option<PoolMode>,
    /// Starts so many nodes of OpenBao as well, three to seven, of which one leads: they are what is to be sourced then.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: Option<u8>,
}

impl Options {
    fn config(&self, setup: Setup) -> Config {
        let &Self { mariadb, mysql, redis, valkey, rabbitmq, pgbouncer, nodes: _ } = self;
        let config = setup.config();
        let versions = Versions {
            mariadb: mariadb.flatten(),
            mysql: mysql.flatten(),
            redis: redis.flatten(),
            valkey: valkey.flatten(),
            rabbitmq: rabbitmq.flatten(),
            ..config.versions
        };
        Config {
            mariadb: mariadb.is_some(),
            mysql: mysql.is_some(),
            redis: redis.is_some(),
            valkey: valkey.is_some(),
            rabbitmq: rabbitmq.is_some(),
            pgbouncer,
            versions,
            ..config
        }
    }
}

/// Starts the servers, says how to use them, and keeps them until Ctrl-C.
pub(crate) async fn run(options: &Options, setup: Setup, interrupt: Interrupt) -> ExitCode {
    output::verdict(keep(options, setup, &interrupt).await)
}

async fn keep(options: &Options, setup: Setup, interrupt: &Interrupt) -> Result<()> {
    let config = options.config(setup);
    setup.build_missing(&setup.images(&config)?).await?;
    let servers = listed(&config.images(setup.product()?));
    eprintln!("starting {servers}");
    let (testbed, nodes) = tokio::select! {
        started = start(config, options.nodes) => started?,
        () = interrupt.asked() => return Ok(()),
    };
    let mut environment = String::new();
    let variables = nodes.as_ref().map_or_else(|| testbed.environment(), |nodes| nodes.environment(&testbed));
    for (name, value) in variables {
        writeln!(environment, "export {name}='{value}'")?;
    }
    let file = leasehold_testbed::target_folder().join("testbed").join("env");
    write(&file, &environment).with_context(|| format!("writing {}", file.display()))?;
    let client = match &nodes {
        Some(nodes) => nodes.leader().await?.client().await?,
        None => testbed.openbao().client().await?,
    };
    let shown = file.display();
    output::line(&format!(
        "{servers} are up until Ctrl-C. In another terminal:\n\n  source {shown}\n\n{environment}"
    ));
    if let Some(nodes) = &nodes {
        let (count, took) = (nodes.all().len(), nodes.took());
        output::line(&format!(
            "{count} nodes of OpenBao took {took:.1?}; VAULT_ADDR leads to each in turn.\n"
        ));
    }
    output::line("Things to try:");
    output::line("  cargo run --package quickstart    # rows, read by a user that did not exist before");
    output::line("  cargo testbed demo --external --query 'SELECT count(*) FROM measurements'");
    let revoke = format!("{client} lease revoke -prefix database/creds/pipeline");
    output::line(&format!("  {revoke}    # and watch the demo"));
    if nodes.is_some() {
        output::line(&format!("  {client} operator step-down    # another node leads; the demo goes on"));
        output::line(&format!("  {client} operator seal    # one node less; the demo goes on"));
    }
    for line in more_to_try(&testbed, &client) {
        output::line(&line);
    }
    interrupt.asked().await;
    // Another `up` may have written its own meanwhile.
    if std::fs::read_to_string(&file).is_ok_and(|now| now == environment) {
        drop(std::fs::remove_file(file));
    }
    drop((nodes, testbed));
    Ok(())
}

async fn start(config: Config, nodes: Option<u8>) -> Result<(Testbed, Option<Nodes>)> {
    let testbed = Testbed::start(config).await?;
    let nodes = match nodes {
        Some(count) => Some(Nodes::start(&testbed, count.into()).await?),
        None => None,
    };
    Ok((testbed, nodes))
}

/// How to come into the servers that have no example of their own. The user and the password are what the first line reads.
fn more_to_try(testbed: &Testbed, client: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if testbed.pgbouncer().is_some() {
        let quickstart = "cargo run --package quickstart    # the same, through PgBouncer";
        lines.push(format!("  DATABASE_URL=$PGBOUNCER_URL {quickstart}"));
    }
    if let Some(mysql) = testbed.mysql() {
        let (port, database) = (mysql.port(), mysql.database());
        lines.push("In MySQL:".into());
        lines.push(format!("  {client} read database/creds/{}    # a user", mysql.role()));
        lines.push(format!(
            "  {client} read database/static-creds/{}    # the one that stays",
            mysql.static_role()
        ));
        let tls = r#"--ssl-mode=VERIFY_CA --ssl-ca="$MYSQL_CA""#;
        lines.push(format!("  mysql --protocol=tcp --port={port} {tls} --password --user=USER {database}"));
        lines.push(format!(
            "  mysql --protocol=tcp --port={port} --ssl-mode=DISABLED --get-server-public-key --password --user=USER {database}"
        ));
    }
    if let Some(valkey) = testbed.valkey() {
        lines.push("In Valkey:".into());
        lines.push(format!("  {client} read database/creds/{}    # a user", valkey.role()));
        let url = format!("--askpass --user USER -p {}", valkey.port());
        lines.push(format!("  valkey-cli {url} HGET measurements 7    # or redis-cli"));
    }
    lines
}

/// The servers' names, as a sentence has them.
fn listed(servers: &[Choice]) -> String {
    let names: Vec<String> = servers.iter().map(|server| server.name()).collect();
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
