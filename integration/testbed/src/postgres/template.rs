//! PostgreSQL's data folder.

use std::{fs, path::Path, process::Command};

use super::{ADMIN, DATABASE, Postgres, plan};
use crate::{
    backstage::Backstage,
    command,
    config::Report,
    error::{Error, Result},
    locate,
    supervise::Supervisor,
    template::{self, Template, digits},
};

/// Counts the changes of what is in the template, so that an old one is not taken for a new one.
const REVISION: u32 = 1;

/// The data is worth nothing, so nothing is flushed; the rest keeps the copy and the start small.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
password_encryption = scram-sha-256
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 16MB
max_connections = 60
min_wal_size = 4MB
max_wal_size = 64MB
log_line_prefix = '%m [%p] %u '
";

/// The superuser comes through the folder's socket and nowhere else.
const ACCESS: &str = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// Returns the template for this PostgreSQL, which it makes if it must.
pub(super) async fn prepare(
    backstage: &Backstage,
    programs: &locate::Postgres,
    report: Report,
) -> Result<Template> {
    let name = format!("pg-template-{}-{REVISION}", digits(&programs.version));
    template::prepare(backstage, &name, "PostgreSQL", report, || make(backstage, programs)).await
}

async fn make(backstage: &Backstage, programs: &locate::Postgres) -> Result<Supervisor> {
    let (threads, programs) = (backstage.clone(), programs.clone());
    let server = backstage
        .block(move || {
            let server = Supervisor::new(plan(&programs)?, &threads)?;
            initdb(&programs.bin, &server.folder().join("data"))?;
            Ok(server)
        })
        .await?;
    let postgres = Postgres::start(server, backstage).await?;
    fill(&postgres).await?;
    postgres.stop().await?;
    // A start of its own adds the port and the socket's folder.
    write_settings(&postgres.folder().join("data"))?;
    Ok(postgres.server)
}

fn initdb(bin: &Path, data: &Path) -> Result<()> {
    let mut initdb = Command::new(bin.join("initdb"));
    initdb.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
        "--no-sync",
        "--wal-segsize=1",
    ]);
    initdb.arg("-D").arg(data).current_dir("/");
    command::run(command::unprivileged(initdb)?)?;
    let defaults = data.join("postgresql.conf");
    fs::rename(&defaults, data.join("postgresql.conf.initdb")).map_err(Error::file(&defaults))?;
    write_settings(data)?;
    let access = data.join("pg_hba.conf");
    fs::write(&access, ACCESS).map_err(Error::file(access))
}

fn write_settings(data: &Path) -> Result<()> {
    let path = data.join("postgresql.conf");
    fs::write(&path, SETTINGS).map_err(Error::file(path))
}

/// What a service finds: a table that it may read, through a role that OpenBao may pass on.
async fn fill(postgres: &Postgres) -> Result<()> {
    postgres.query_in("postgres", &format!("CREATE DATABASE {DATABASE}")).await?;
    postgres
        .execute(&format!(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC;
             CREATE ROLE pipeline_reader NOLOGIN;
             CREATE ROLE {ADMIN} LOGIN CREATEROLE;
             GRANT pipeline_reader TO {ADMIN} WITH ADMIN OPTION;
             CREATE TABLE measurements (
                 id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, value double precision NOT NULL);
             INSERT INTO measurements (value) SELECT n / 10.0 FROM generate_series(1, 100) AS n;
             GRANT SELECT ON measurements TO pipeline_reader"
        ))
        .await
}
