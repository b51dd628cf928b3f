//! A folder for what is on its way into an image.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// A folder that is gone when this is dropped, and whose content of a run that was killed is gone when it is made.
pub(crate) struct Work(PathBuf);

impl Work {
    /// Whoever calls this holds the lock.
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        remove(&folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// A folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.0.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            eprintln!("{error:#}");
        }
    }
}

/// Writes a file, which may be run if it is a script.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, content));
    let written = written.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    written.with_context(|| format!("writing {}", path.display()))
}

/// Removes a folder, but nothing that is mounted in it: debootstrap mounts `/proc`, which a kill may leave behind.
fn remove(folder: &Path) -> Result<()> {
    // The deepest first.
    for mounted in mounts_in(folder)?.iter().rev() {
        let _ = Command::new("umount").arg("--lazy").arg(mounted).status();
    }
    if let Some(mounted) = mounts_in(folder)?.first() {
        bail!("{} is still mounted: unmount it, and remove {}", mounted.display(), folder.display());
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn mounts_in(folder: &Path) -> Result<Vec<PathBuf>> {
    // The kernel names a folder by its real path.
    let Ok(folder) = folder.canonicalize() else { return Ok(Vec::new()) };
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(mounts(&table).filter(|mounted| mounted.starts_with(&folder)).collect())
}

/// The places of a mount table, in the order of mounting.
fn mounts(table: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|place| {
        let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        escapes.into_iter().fold(place.to_owned(), |place, (escape, is)| place.replace(escape, is)).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_the_fifth_field() {
        let table =
            "22 1 0:5 / /proc rw - proc proc rw\n23 1 0:6 / /a\\040b/proc rw shared:1 - proc proc rw\n";
        assert_eq!(mounts(table).collect::<Vec<_>>(), [Path::new("/proc"), Path::new("/a b/proc")]);
    }

    #[test]
    fn the_folder_begins_empty_and_is_gone_afterwards() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("work");
        let first = Work::new(folder.clone()).unwrap();
        write(&first.folder("a").unwrap().join("left"), "").unwrap();
        std::mem::forget(first);
        let second = Work::new(folder.clone()).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        drop(second);
        assert!(!folder.exists());
    }

    #[test]
    fn a_script_may_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        write(&folder.path().join("a/script.sh"), "#!/bin/sh\n").unwrap();
        write(&folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        assert_eq!((mode("a/script.sh"), mode("Dockerfile")), (0o755, 0o644));
    }
}
