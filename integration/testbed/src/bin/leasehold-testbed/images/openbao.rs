//! The program `bao`, and a shell beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use leasehold_testbed::Version;
use tokio::process::Command;

use super::{debian::apt_get, steps::Steps, work::Work};

/// A `bao` of this machine.
pub(crate) struct Bao {
    path: PathBuf,
    version: String,
}

impl Bao {
    /// Finds it, or the one of a version, or has it installed in the cache.
    pub(crate) async fn find(version: Option<Version>, steps: &Steps) -> Result<Self> {
        if !cfg!(target_os = "linux") {
            bail!("a container's programs are Linux's, which this is not: pull the public images instead");
        }
        let find = move || leasehold_testbed::openbao_program_of(version, |line| eprintln!("{line}"));
        let path = tokio::task::spawn_blocking(find).await??;
        let mut command = Command::new(&path);
        command.arg("version");
        // Such as `OpenBao v2.7.2 (9e0a0d3...), committed 2026-10-26T20:32:27Z`.
        let said = steps.output(command).await?;
        let version = said.split_whitespace().nth(1).and_then(|word| word.strip_prefix('v'));
        let version =
            version.with_context(|| format!("{} has no version: {said}", path.display()))?.to_owned();
        Ok(Self { path, version })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Puts it into an image's root folder, with a busybox and what is to be run there; returns its version.
    pub(crate) async fn install(self, root: &Path, work: &Work, steps: &Steps) -> Result<String> {
        let downloads = work.folder("busybox")?;
        let download = apt_get(&["download", "busybox-static"])?;
        let unpack = |downloads: &Path| {
            let mut command = Command::new("sh");
            command.current_dir(downloads).args(["-c", "dpkg-deb --extract busybox-static_*.deb ."]);
            command
        };
        steps.run("openbao: fetching busybox", in_folder(download, &downloads)).await?;
        steps.output(unpack(&downloads)).await?;
        // Later releases of Debian have no `/bin` of its own.
        let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| downloads.join(path));
        let busybox = busybox.iter().find(|path| path.is_file()).context("the package holds no busybox")?;
        copy(busybox, &root.join("bin/busybox"))?;
        copy(&self.path, &root.join("usr/bin/bao"))?;
        Ok(self.version)
    }
}

fn in_folder(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder);
    command
}

/// Copies a program with its permissions.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    copied.with_context(|| format!("copying {} to {}", from.display(), to.display())).map(drop)
}
