//! Where the servers' programs are, and where the testbed keeps what it can use again.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{
    command,
    config::Report,
    error::{Error, Result},
    install,
    process::User,
    version::Version,
};

/// PostgreSQL's programs.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    /// The folder with `initdb` and `postgres`.
    pub(crate) bin: PathBuf,
    /// What `postgres --version` says.
    pub(crate) version: String,
}

/// MariaDB's programs.
#[derive(Clone, Debug)]
pub(crate) struct MariaDb {
    /// `mariadbd`.
    pub(crate) server: PathBuf,
    /// `mariadb-install-db`, which makes a data folder.
    pub(crate) install: PathBuf,
    /// What `mariadbd --version` says.
    pub(crate) version: String,
}

/// Finds the program `bao`, or installs it in the cache.
///
/// `LEASEHOLD_BAO` comes first, then `PATH`, then the cache. It blocks, for as long as 75 MB take.
///
/// # Errors
///
/// [`Error::Missing`] where `LEASEHOLD_BAO` names no file or there is none for this platform; [`Error::Install`] when it
/// could not be fetched, or is not what was expected.
pub fn openbao(report: Report) -> Result<PathBuf> {
    if let Some(path) = env::var_os("LEASEHOLD_BAO").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Missing {
                program: "OpenBao",
                searched: format!("at {}, which LEASEHOLD_BAO names", path.display()),
                remedy: "point it at a `bao` binary, or unset it to have one installed".into(),
            })
        };
    }
    match on_path("bao") {
        Some(path) => Ok(path),
        None => install::openbao(None, report),
    }
}

/// Finds the program `bao` of a version, or installs it in the cache; the one of [`openbao`] for `None`.
///
/// Others than the cache's are not looked for, because what is on `PATH` may be another.
///
/// # Errors
///
/// As [`openbao`], and [`Error::Missing`] for a version that there is no wheel of.
pub fn openbao_of(version: Option<Version>, report: Report) -> Result<PathBuf> {
    match version {
        Some(version) => install::openbao(Some(version), report),
        None => openbao(report),
    }
}

/// Where `bao` is, if it is here.
pub(crate) fn openbao_here() -> Option<PathBuf> {
    let named = env::var_os("LEASEHOLD_BAO").map(PathBuf::from);
    named
        .or_else(|| on_path("bao"))
        .or_else(|| install::installed_openbao(None))
        .filter(|path| path.is_file())
}

/// Finds `vault`, which nothing installs.
///
/// `LEASEHOLD_VAULT` comes first, then `PATH`.
pub(crate) fn vault() -> Result<PathBuf> {
    let named = env::var_os("LEASEHOLD_VAULT").map(PathBuf::from);
    let found = named.map_or_else(|| on_path("vault"), Some).filter(|path| path.is_file());
    found.ok_or_else(|| Error::Missing {
        program: "Vault",
        searched: "where LEASEHOLD_VAULT says, nor on PATH".into(),
        remedy: "install it from HashiCorp, or use its image with LEASEHOLD_LAUNCHER=containers".into(),
    })
}

/// Finds PostgreSQL's programs, or installs them where we may.
pub(crate) fn postgres(report: Report) -> Result<Postgres> {
    let bin = install::POSTGRES.find(report, postgres_here)?;
    let version = command::output(&bin.join("postgres"), &["--version".as_ref()])?;
    Ok(Postgres { bin, version: version.trim().into() })
}

/// Finds MariaDB's programs, or installs them where we may.
pub(crate) fn mariadb(report: Report) -> Result<MariaDb> {
    let find = || Some((mariadb_here()?, program("mariadb-install-db")?));
    let (server, install) = install::MARIADB.find(report, find)?;
    let version = command::output(&server, &["--no-defaults".as_ref(), "--version".as_ref()])?;
    Ok(MariaDb { server, install, version })
}

/// Finds `redis-server`, or installs it where we may.
pub(crate) fn redis(report: Report) -> Result<PathBuf> {
    install::REDIS.find(report, redis_here)
}

/// Finds `rabbitmq-server`, or installs it where we may.
pub(crate) fn rabbitmq(report: Report) -> Result<PathBuf> {
    install::RABBITMQ.find(report, rabbitmq_here)
}

/// Finds `pgbouncer`, or installs it where we may. `LEASEHOLD_PGBOUNCER` comes first, such as one of another release.
pub(crate) fn pgbouncer(report: Report) -> Result<PathBuf> {
    match env::var_os("LEASEHOLD_PGBOUNCER").map(PathBuf::from) {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(Error::Missing {
            program: "PgBouncer",
            searched: format!("at {}, which LEASEHOLD_PGBOUNCER names", path.display()),
            remedy: "point it at a `pgbouncer` binary, or unset it to have one installed".into(),
        }),
        None => install::PGBOUNCER.find(report, pgbouncer_here),
    }
}

/// Where `pgbouncer` is, if it is here.
pub(crate) fn pgbouncer_here() -> Option<PathBuf> {
    let named = env::var_os("LEASEHOLD_PGBOUNCER").map(PathBuf::from);
    named.or_else(|| program("pgbouncer")).filter(|path| path.is_file())
}

/// Where `mariadbd` is, if it is here.
pub(crate) fn mariadb_here() -> Option<PathBuf> {
    program("mariadbd")
}

/// Where `redis-server` is, if it is here.
pub(crate) fn redis_here() -> Option<PathBuf> {
    program("redis-server")
}

/// Where `rabbitmq-server` is, if it is here.
pub(crate) fn rabbitmq_here() -> Option<PathBuf> {
    // What packages put on PATH runs as root or as their own user, and nobody else, with the machine's settings.
    let packaged = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    Some(packaged.to_owned()).filter(|path| path.is_file()).or_else(|| on_path("rabbitmq-server"))
}

/// The unprivileged user for servers that refuse to run as root; `None` when we are not root.
pub(crate) fn unprivileged() -> Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let path = Path::new("/etc/passwd");
    let users = fs::read_to_string(path).map_err(Error::file(path))?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            Some(User { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        })
    };
    find("postgres").or_else(|| find("nobody")).map(Some).ok_or_else(|| Error::Missing {
        program: "an unprivileged user",
        searched: "in /etc/passwd".into(),
        remedy: "databases do not run as root: add a user `postgres`, or do not run as root".into(),
    })
}

/// Where the testbed keeps what it can use again.
pub(crate) fn cache() -> PathBuf {
    target_folder().join("testbed")
}

/// The workspace's target folder: `CARGO_TARGET_DIR`, else beside the `Cargo.lock` that cargo runs under, else a folder
/// of the user's cache.
pub fn target_folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).or_else(|| {
        let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
        let workspace = package.ancestors().find(|folder| folder.join("Cargo.lock").is_file())?;
        Some(workspace.join("target"))
    });
    let target = target.unwrap_or_else(|| user_cache().join("leasehold"));
    std::path::absolute(&target).unwrap_or(target)
}

/// Makes a folder of the cache and holds its lock until the file is dropped.
pub(crate) fn locked(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let path = folder.join("lock");
    let lock = File::create(&path).map_err(Error::file(&path))?;
    lock.lock().map_err(Error::file(&path))?;
    Ok(lock)
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A program on `PATH`, or where Debian has the servers that a user's `PATH` leaves out.
fn program(name: &str) -> Option<PathBuf> {
    on_path(name).or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|path| path.is_file()))
}

/// The folder of PostgreSQL's programs, if they are here.
pub(crate) fn postgres_here() -> Option<PathBuf> {
    // `postgres` on PATH may be a link to where the rest is.
    let linked = on_path("postgres").and_then(|path| path.canonicalize().ok());
    let linked = linked.and_then(|path| path.parent().map(Path::to_path_buf));
    linked.filter(|bin| bin.join("initdb").is_file()).or_else(debian_postgres)
}

fn debian_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").is_file().then_some((version, bin))
        })
        .max()
        .map(|(_, bin)| bin)
}

fn user_cache() -> PathBuf {
    let absolute = |name: &str| env::var_os(name).filter(|path| Path::new(OsStr::new(path)).is_absolute());
    match absolute("XDG_CACHE_HOME") {
        Some(cache) => cache.into(),
        None => match absolute("HOME") {
            Some(home) => Path::new(&home).join(".cache"),
            None => env::temp_dir(),
        },
    }
}
