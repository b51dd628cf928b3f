//! MariaDB's data folder, and its settings.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{ADMIN, DATABASE, MariaDb, plan};
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

/// The data is worth nothing, so nothing is flushed; the rest keeps the copy and the start small. Without names, no
/// client is `localhost`.
const SETTINGS: &str = "
bind_address = 127.0.0.1
skip_name_resolve
max_connections = 60
innodb_flush_method = nosync
innodb_flush_log_at_trx_commit = 2
innodb_doublewrite = 0
innodb_data_file_path = ibdata1:5M:autoextend
innodb_autoextend_increment = 1
innodb_temp_data_file_path = ibtmp1:5M:autoextend
innodb_log_file_size = 4M
innodb_buffer_pool_size = 8M
innodb_buffer_pool_dump_at_shutdown = 0
key_buffer_size = 1M
aria_pagecache_buffer_size = 1M
";

/// Returns the template for this MariaDB, which it makes if it must.
pub(super) async fn prepare(
    backstage: &Backstage,
    programs: &locate::MariaDb,
    report: Report,
) -> Result<Template> {
    let name = format!("mariadb-template-{}-{REVISION}", digits(&programs.version));
    template::prepare(backstage, &name, "MariaDB", report, || make(backstage, programs)).await
}

/// The content of `my.cnf`.
pub(super) fn settings(folder: &Path, port: u16) -> String {
    let (folder, socket) = (folder.display(), socket(folder));
    format!(
        "[mariadbd]\ndatadir = {folder}/data\ntmpdir = {folder}\npid_file = {folder}/pid\nsocket = {}\nport = {port}\n{SETTINGS}",
        socket.display(),
    )
}

/// The superuser's way in.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

async fn make(backstage: &Backstage, programs: &locate::MariaDb) -> Result<Supervisor> {
    let (threads, programs) = (backstage.clone(), programs.clone());
    let server = backstage
        .block(move || {
            let server = Supervisor::new(plan(&programs)?, &threads)?;
            install(&programs.install, server.folder())?;
            Ok(server)
        })
        .await?;
    let mariadb = MariaDb::start(server, backstage).await?;
    fill(&mariadb).await?;
    mariadb.stop().await?;
    Ok(mariadb.server)
}

fn install(program: &Path, folder: &Path) -> Result<()> {
    let path = folder.join("my.cnf");
    // The sizes of files are decided here; nobody connects yet.
    fs::write(&path, settings(folder, 0)).map_err(Error::file(&path))?;
    let mut install = Command::new(program);
    install.arg(format!("--defaults-file={}", path.display())).args([
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
    ]);
    install.current_dir("/");
    command::run(command::unprivileged(install)?).map(drop)
}

/// What a service finds: a table that it may read, through a user that may pass the right on, and close sessions.
///
/// The superuser comes through the folder's socket and nowhere else, and nobody without a name: such a user at
/// `localhost` would be preferred to a named one at `%`.
async fn fill(mariadb: &MariaDb) -> Result<()> {
    let others = "SELECT CONCAT('DROP USER ''', user, '''@''', host, ''';') FROM mysql.global_priv
                  WHERE user = '' AND host <> '' OR user = 'root' AND host <> 'localhost'";
    let others: String = mariadb.query_in("mysql", others).await?.into_iter().flatten().flatten().collect();
    mariadb
        .query_in(
            "mysql",
            &format!(
                "{others}
                 CREATE DATABASE {DATABASE};
                 CREATE TABLE {DATABASE}.measurements (
                     id bigint PRIMARY KEY AUTO_INCREMENT, value double NOT NULL);
                 INSERT INTO {DATABASE}.measurements (value)
                     SELECT seq / 10.0 FROM {DATABASE}.seq_1_to_100;
                 CREATE USER '{ADMIN}'@'%';
                 GRANT CREATE USER, CONNECTION ADMIN ON *.* TO '{ADMIN}'@'%';
                 GRANT SELECT ON {DATABASE}.* TO '{ADMIN}'@'%' WITH GRANT OPTION"
            ),
        )
        .await
        .map(drop)
}
