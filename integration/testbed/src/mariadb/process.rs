//! MariaDB as a process, and its data folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use super::{MariaDb, SETTINGS, fill};
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

const NAME: &str = "MariaDB";

/// Counts the changes of what is in the template, so that an old one is not taken for a new one.
const REVISION: u32 = 1;

/// A server that is not started yet, whose folder has a copy of the template's data.
pub(super) async fn server(site: &Site, port: &Port) -> Result<(Server, Superuser)> {
    let report = site.report;
    let programs = site.backstage.block(move || locate::mariadb(report)).await?;
    let template = prepare(site, &programs).await?;
    let supervisor = template.server(&site.backstage, plan(&programs)?).await?;
    configured(site, supervisor, port.number())
}

/// Tells a server whose folder has its data the port, and where its socket is.
fn configured(site: &Site, supervisor: Supervisor, port: u16) -> Result<(Server, Superuser)> {
    let server = Server::new(NAME, Arc::new(supervisor), &site.backstage);
    write_settings(server.folder(), port)?;
    let socket = socket(server.folder());
    Ok((server, Superuser::Socket(socket)))
}

/// A server that does as it is told by its `my.cnf`.
fn plan(programs: &locate::MariaDb) -> Result<Plan> {
    Ok(Plan {
        name: NAME,
        command: vec![programs.server.clone().into(), "--defaults-file=my.cnf".into()],
        user: locate::unprivileged()?,
        stop: "TERM",
        // Its data goes as well, so there is nothing to be orderly about.
        end: "KILL",
    })
}

/// Returns the template for this MariaDB, which it makes if it must.
async fn prepare(site: &Site, programs: &locate::MariaDb) -> Result<Template> {
    let name = format!("mariadb-template-{}-{REVISION}", digits(&programs.version));
    template::prepare(&site.backstage, &name, NAME, site.report, || make(site, programs)).await
}

async fn make(site: &Site, programs: &locate::MariaDb) -> Result<Server> {
    let (threads, programs) = (site.backstage.clone(), programs.clone());
    let supervisor = site.backstage.block(move || {
        let supervisor = Supervisor::new(&plan(&programs)?, &threads)?;
        install(&programs.install, supervisor.folder())?;
        Ok(supervisor)
    });
    let port = Port::reserve()?;
    let (server, superuser) = configured(site, supervisor.await?, port.number())?;
    let mariadb = MariaDb::start(site, server, port, superuser).await?;
    fill(&mariadb, "localhost").await?;
    mariadb.stop().await?;
    Ok(mariadb.server)
}

fn install(program: &Path, folder: &Path) -> Result<()> {
    // The sizes of files are decided here; nobody connects yet.
    let path = write_settings(folder, 0)?;
    let mut install = Command::new(program);
    install.arg(format!("--defaults-file={}", path.display())).args([
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
    ]);
    install.current_dir("/");
    command::run(command::unprivileged(install)?).map(drop)
}

/// Writes `my.cnf`, and returns where it is.
fn write_settings(folder: &Path, port: u16) -> Result<PathBuf> {
    let (path, socket) = (folder.join("my.cnf"), socket(folder));
    let (folder, socket) = (folder.display(), socket.display());
    let settings: String = SETTINGS.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    let text = format!(
        "[mariadbd]\ndatadir = {folder}/data\ntmpdir = {folder}\npid_file = {folder}/pid\nsocket = {socket}\n\
         bind_address = 127.0.0.1\nport = {port}\n{settings}"
    );
    fs::write(&path, text).map_err(Error::file(&path))?;
    Ok(path)
}

/// The superuser's way in.
fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}
