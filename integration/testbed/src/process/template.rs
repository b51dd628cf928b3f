//! Data folders that are made once and copied for every server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    backstage::Backstage,
    command,
    config::Report,
    error::{Error, Result},
    locate::{self, cache, locked},
    process::{Plan, Supervisor},
    server::{Runner as _, Server},
};

/// A data folder in the cache.
#[derive(Debug)]
pub(crate) struct Template {
    data: PathBuf,
}

/// Returns the template of a name, for our user; if it is not there, the data of a server that was made and stopped.
pub(crate) async fn prepare<F: Future<Output = Result<Server>>>(
    backstage: &Backstage,
    name: &str,
    program: &str,
    report: Report,
    make: impl FnOnce() -> F,
) -> Result<Template> {
    let user = locate::unprivileged()?;
    let owner = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
    let folder = cache().join(format!("{name}-{owner}"));
    let template = Template { data: folder.join("data") };
    if template.data.is_dir() {
        return Ok(template);
    }
    let locked_folder = folder.clone();
    let _lock = backstage.block(move || locked(&locked_folder)).await?;
    if template.data.is_dir() {
        return Ok(template);
    }
    report(&format!("making a {program} data folder to copy, once, in {}", folder.display()));
    let stopped = make().await?;
    backstage
        .block(move || {
            let partial = tempfile::tempdir_in(&folder).map_err(Error::file(&folder))?;
            copy(&stopped.folder().join("data"), &partial.path().join("data"))?;
            fs::rename(partial.path().join("data"), &template.data).map_err(Error::file(&template.data))?;
            Ok(template)
        })
        .await
}

impl Template {
    /// Makes a server's folder with a copy of the data; the server is not started.
    pub(crate) async fn server(self, backstage: &Backstage, plan: Plan) -> Result<Supervisor> {
        let threads = backstage.clone();
        let work = move || {
            let server = Supervisor::new(&plan, &threads)?;
            copy(&self.data, &server.folder().join("data"))?;
            Ok(server)
        };
        backstage.block(work).await
    }
}

/// What of a program's version can be part of a folder's name.
pub(crate) fn digits(version: &str) -> String {
    version.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect()
}

/// Copies a folder with its owners.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.arg("-a");
    if cfg!(target_os = "linux") {
        cp.arg("--reflink=auto");
    }
    cp.arg(from).arg(to);
    command::run(cp).map(drop)
}
