//! A standby as a process, and its data folder.

use std::{path::PathBuf, process::Command};

use super::{NAME, SLOT};
use crate::{
    command,
    error::Result,
    locate,
    ports::Port,
    postgres::{Postgres, process},
    process::Supervisor,
    server::{Runner as _, Server, Superuser},
    site::Site,
};

/// A server that is not started yet, whose folder has a copy of the primary's data.
pub(super) async fn server(site: &Site, primary: &Postgres, port: &Port) -> Result<(Server, Superuser)> {
    let (report, threads) = (site.report, site.backstage.clone());
    let (socket, primary) = (primary.folder().to_owned(), primary.port());
    let supervisor = site.backstage.block(move || {
        let programs = locate::postgres(report)?;
        let supervisor = Supervisor::new(&process::plan(NAME, &programs)?, &threads)?;
        copy(&programs, socket, primary, &supervisor)?;
        Ok(supervisor)
    });
    process::configured(NAME, site, supervisor.await?, port)
}

/// Lets the primary send its data. The superuser comes through its socket, as the user that it runs as.
fn copy(programs: &locate::Postgres, socket: PathBuf, primary: u16, standby: &Supervisor) -> Result<()> {
    let mut backup = Command::new(programs.bin.join("pg_basebackup"));
    backup.args(["--username", "postgres", "--host"]).arg(socket).args(["--port", &primary.to_string()]);
    // With what it needs to be a standby, and nothing flushed.
    backup.args(["--write-recovery-conf", "--create-slot", "--slot", SLOT, "--wal-method", "stream"]);
    backup.args(["--checkpoint", "fast", "--no-sync", "--pgdata"]).arg(standby.folder().join("data"));
    backup.current_dir("/");
    command::run(command::unprivileged(backup)?).map(drop)
}
