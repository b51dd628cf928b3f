//! PostgreSQL as a process, and its data folder.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    sync::Arc,
};

use super::{Postgres, SETTINGS, fill};
use crate::{
    command,
    error::{Error, Result},
    locate,
    ports::Port,
    process::{
        Plan, Supervisor,
        template::{self, Template, digits},
    },
    server::{Runner as _, Server, Superuser},
    site::Site,
};

const NAME: &str = "PostgreSQL";

/// Counts the changes of what is in the template, so that an old one is not taken for a new one.
const REVISION: u32 = 3;

/// The superuser comes through the folder's socket and nowhere else, and so does a standby.
const ACCESS: &str = "local all,replication postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A server that is not started yet, whose folder has a copy of the template's data.
pub(super) async fn server(site: &Site, port: &Port) -> Result<(Server, Superuser)> {
    let report = site.report;
    let programs = site.backstage.block(move || locate::postgres(report)).await?;
    let template = prepare(site, &programs).await?;
    let supervisor = template.server(&site.backstage, plan(NAME, &programs)?).await?;
    configured(NAME, site, supervisor, port)
}

/// Tells a server whose folder has its data the port, and where its socket is.
pub(crate) fn configured(
    name: &'static str,
    site: &Site,
    supervisor: Supervisor,
    port: &Port,
) -> Result<(Server, Superuser)> {
    let server = Server::new(name, Arc::new(supervisor), &site.backstage);
    let folder = server.folder().to_owned();
    let settings = folder.join("data/postgresql.conf");
    let line = format!("port = {}\nunix_socket_directories = '{}'\n", port.number(), folder.display());
    let mut file = OpenOptions::new().append(true).open(&settings).map_err(Error::file(&settings))?;
    file.write_all(line.as_bytes()).map_err(Error::file(&settings))?;
    Ok((server, Superuser::Socket(folder)))
}

/// A server that does as it is told by its `postgresql.conf`.
pub(crate) fn plan(name: &'static str, programs: &locate::Postgres) -> Result<Plan> {
    Ok(Plan {
        name,
        command: vec![programs.bin.join("postgres").into(), "-D".into(), "data".into()],
        user: locate::unprivileged()?,
        stop: "INT",
        end: "QUIT",
    })
}

/// Returns the template for this PostgreSQL, which it makes if it must.
async fn prepare(site: &Site, programs: &locate::Postgres) -> Result<Template> {
    let name = format!("pg-template-{}-{REVISION}", digits(&programs.version));
    template::prepare(&site.backstage, &name, NAME, site.report, || make(site, programs)).await
}

async fn make(site: &Site, programs: &locate::Postgres) -> Result<Server> {
    let (threads, programs) = (site.backstage.clone(), programs.clone());
    let supervisor = site.backstage.block(move || {
        let supervisor = Supervisor::new(&plan(NAME, &programs)?, &threads)?;
        initdb(&programs.bin, &supervisor.folder().join("data"))?;
        Ok(supervisor)
    });
    let port = Port::reserve()?;
    let (server, superuser) = configured(NAME, site, supervisor.await?, &port)?;
    let postgres = Postgres::start(site, server, port, superuser).await?;
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
    let lines = SETTINGS.iter().map(|(name, value)| format!("{name} = '{value}'\n"));
    let text: String = std::iter::once("listen_addresses = '127.0.0.1'\n".to_owned()).chain(lines).collect();
    fs::write(&path, text).map_err(Error::file(path))
}
