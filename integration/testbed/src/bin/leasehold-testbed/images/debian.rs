//! The Debian that the images of all servers but OpenBao have in common.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::{
    docker,
    server::{Files, Server, files, revision},
    steps::Steps,
    work::Work,
};

/// An image with the programs of all these servers, each image's first layer.
pub(crate) struct Debian {
    anew: bool,
    versions: Option<HashMap<String, String>>,
}

impl Debian {
    pub(crate) fn new(anew: bool) -> Self {
        Self { anew, versions: None }
    }

    /// What it is made of.
    pub(crate) fn revision() -> String {
        revision(FILES, &format!("{BOOKWORM} {PACKAGES}"))
    }

    /// The version of a server in it; makes it first if it must.
    pub(crate) async fn version_of(&mut self, server: Server, work: &Work, steps: &Steps) -> Result<String> {
        let label = version_label(server.name());
        if self.versions.is_none() {
            self.versions = Some(self.ensure(work, steps).await?);
        }
        let version = self.versions.as_ref().and_then(|labels| labels.get(&label));
        version.cloned().with_context(|| format!("{IMAGE} has no label {label}"))
    }

    /// Returns the labels of the image that is there, or is there now.
    async fn ensure(&self, work: &Work, steps: &Steps) -> Result<HashMap<String, String>> {
        if !self.anew
            && let Some(labels) = docker::labels(IMAGE, steps).await?
            && labels.get(docker::REVISION) == Some(&Self::revision())
        {
            return Ok(labels);
        }
        self.build(work, steps).await?;
        docker::labels(IMAGE, steps).await?.with_context(|| format!("{IMAGE} was built and is not there"))
    }

    async fn build(&self, work: &Work, steps: &Steps) -> Result<()> {
        let root = root(BOOKWORM, &[&format!("--include={PACKAGES}")], work, steps).await?;
        let mut labels = vec![(docker::REVISION.to_owned(), Self::revision())];
        labels.extend(versions(&installed(&root, steps).await?));
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        import(&root, FILES[0].1, IMAGE, &labels, steps).await
    }
}

/// Makes sure that there is the image of a suite that has nothing in it but what every Debian has, and returns its name.
pub(crate) async fn minimal(suite: &str, anew: bool, work: &Work, steps: &Steps) -> Result<String> {
    let image = format!("{REPOSITORY}:{suite}");
    let [(_, minimal), ..] = SUITE_FILES else { bail!("the scripts of Debian are other ones") };
    let revision = revision(&SUITE_FILES[..1], &format!("minbase {suite}"));
    if !anew && docker::revision(&image, steps).await?.as_ref() == Some(&revision) {
        return Ok(image);
    }
    let root = root(suite, &[], work, steps).await?;
    import(&root, minimal, &image, &[(docker::REVISION, revision)], steps).await?;
    Ok(image)
}

/// A Debian in a folder.
async fn root(suite: &str, options: &[&str], work: &Work, steps: &Steps) -> Result<PathBuf> {
    demand_root()?;
    install_debootstrap(steps).await?;
    let root = work.folder(&format!("debian-{suite}"))?.join("root");
    let mirror = mirror(steps).await;
    let what = format!("debian: debootstrap of {suite} from {mirror}");
    steps.run(&what, debootstrap(suite, options, &root, &mirror)).await?;
    Ok(root)
}

/// Makes an image of a Debian in a folder, which is gone then.
async fn import(
    root: &Path,
    prepare: &str,
    image: &str,
    labels: &[(&str, String)],
    steps: &Steps,
) -> Result<()> {
    steps.run("debian: removing what no server reads", inside(root, prepare)).await?;
    let archive = root.with_extension("tar");
    steps.run("debian: packing", tar(root, &archive)).await?;
    docker::import(&archive, image, labels, &format!("debian: importing {image}"), steps).await?;
    fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
    fs::remove_dir_all(root).with_context(|| format!("removing {}", root.display()))
}

/// A command of apt, whose words are English and which waits for another apt.
pub(crate) fn apt_get(arguments: &[&str]) -> Result<Command> {
    if !on_path("apt-get") {
        bail!("there is no apt-get here, which fetches what the images are made of; {INSTEAD}");
    }
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    Ok(command)
}

fn demand_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("only root may make a Debian with debootstrap; run this as root, or {INSTEAD}");
}

async fn install_debootstrap(steps: &Steps) -> Result<()> {
    if on_path("debootstrap") {
        return Ok(());
    }
    // The keys come with it on Debian; elsewhere they are a package that nothing asks for.
    let install = ["install", "-y", "--no-install-recommends", "debootstrap", "debian-archive-keyring"];
    let what = "debian: installing debootstrap with apt-get";
    if steps.run(what, apt_get(&install)?).await.is_err() {
        // Most often the lists of packages are missing, as in a fresh container.
        steps.run("debian: updating apt's lists", apt_get(&["update"])?).await?;
        steps.run(what, apt_get(&install)?).await?;
    }
    Ok(())
}

/// In namespaces of its own: whatever it mounts and whatever it starts ends with it.
fn debootstrap(suite: &str, options: &[&str], root: &Path, mirror: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--", "debootstrap", "--variant=minbase"]);
    command.args(options).arg(suite).arg(root).arg(mirror);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

/// Runs a script in a Debian's root folder.
fn inside(root: &Path, script: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).args(["/bin/sh", "-c", script]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command
}

fn tar(root: &Path, archive: &Path) -> Command {
    let mut command = Command::new("tar");
    command.args(["--create", "--one-file-system", "--numeric-owner", "--file"]).arg(archive);
    command.arg("--directory").arg(root).arg(".");
    command
}

/// The mirror that this machine's apt uses, if that is one of Debian.
async fn mirror(steps: &Steps) -> String {
    let targets = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let configured = match apt_get(&targets) {
        Ok(command) => steps.output(command).await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    debian_of(&configured).unwrap_or("http://deb.debian.org/debian").to_owned()
}

fn debian_of(repositories: &str) -> Option<&str> {
    let mut repositories = repositories.lines().map(|line| line.trim().trim_end_matches('/'));
    repositories.find(|uri| uri.starts_with("http") && uri.ends_with("/debian"))
}

/// The packages in a Debian's root folder and their versions.
async fn installed(root: &Path, steps: &Steps) -> Result<String> {
    let mut command = Command::new("dpkg-query");
    command.arg("--admindir").arg(root.join("var/lib/dpkg"));
    command.args(["--show", "--showformat=${Package} ${Version}\\n"]);
    steps.output(command).await
}

/// The labels with the servers' own versions.
fn versions(installed: &str) -> Vec<(String, String)> {
    let packages = installed.lines().filter_map(|line| line.split_once(' '));
    packages
        .filter_map(|(package, version)| {
            let server = whose(package)?;
            Some((version_label(server.name()), upstream(version).to_owned()))
        })
        .collect()
}

/// A server's own version, among the packages of an image.
pub(crate) fn version_in(installed: &str, server: Server) -> Option<String> {
    let mut packages = installed.lines().filter_map(|line| line.split_once(' '));
    let (_, version) = packages.find(|(package, _)| whose(package) == Some(server))?;
    Some(upstream(version).to_owned())
}

/// The server whose version is the package's.
fn whose(package: &str) -> Option<Server> {
    if package.strip_prefix("postgresql-").is_some_and(is_number) {
        return Some(Server::Postgres);
    }
    Server::ALL
        .into_iter()
        .filter(|&server| server != Server::Postgres)
        .find(|server| server.packages().first() == Some(&package))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Debian's version without what only Debian counts: `5:7.0.15-1~deb12u5` is 7.0.15, and `8.1.1+dfsg1-3` is 8.1.1.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    let version = version.rsplit_once('-').map_or(version, |(version, _)| version);
    version.split_once("+d").map_or(version, |(version, _)| version)
}

fn version_label(name: &str) -> String {
    format!("{}.{name}.version", docker::REVISION)
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| fs::metadata(folder.join(program)).is_ok_and(|file| file.is_file()))
}

const BOOKWORM: &str = "bookworm";
const IMAGE: &str = "localhost/leasehold/debian:local";
pub(crate) const REPOSITORY: &str = "localhost/leasehold/debian";
/// `postgresql` is whichever version the suite has.
const PACKAGES: &str = "postgresql,mariadb-server-core,mariadb-client-core,redis-server,rabbitmq-server";
pub(crate) const FILES: Files = files!("debian": "prepare.sh");
pub(crate) const SUITE_FILES: Files =
    files!("debian": "minimal.sh", "install.sh", "prepare.sh", "Dockerfile");
const INSTEAD: &str = "pull the public images (`docker pull postgres:18`, and so on), or let \
                       LEASEHOLD_IMAGE_OPENBAO, _POSTGRES, _MARIADB, _REDIS and _RABBITMQ name images that are there";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_servers() {
        let installed = "mariadb-server-core 1:10.11.18-0+deb12u1\npostgresql-15 15.18-0+deb12u1\n\
                         postgresql-client-15 15.18-0+deb12u1\npostgresql 15+248\nrabbitmq-server 3.10.8-1.1+deb12u1\nredis-server 5:7.0.15-1~deb12u5\n";
        let label = |name: &str, version: &str| (version_label(name), version.to_owned());
        let expected = [
            label("mariadb", "10.11.18"),
            label("postgres", "15.18"),
            label("rabbitmq", "3.10.8"),
            label("redis", "7.0.15"),
        ];
        assert_eq!(versions(installed), expected);
    }

    #[test]
    fn a_version_is_the_makers() {
        let installed = "mysql-client-core 9.7.4-2\nmysql-server-core 9.7.4-2\npostgresql-common 293\n\
                         postgresql-18 18.1-2\nvalkey-server 8.1.1+dfsg1-3+deb13u3\nmariadb-server-core 1:11.8.9+ds-4\n";
        let version = |server| version_in(installed, server);
        assert_eq!(version(Server::Mysql).as_deref(), Some("9.7.4"));
        assert_eq!(version(Server::Postgres).as_deref(), Some("18.1"));
        assert_eq!(version(Server::Valkey).as_deref(), Some("8.1.1"));
        assert_eq!(version(Server::Mariadb).as_deref(), Some("11.8.9"));
        assert_eq!(version(Server::Redis), None);
    }

    #[test]
    fn a_mirror_is_one_of_debian() {
        let repositories = "https://deb.nodesource.com/node_20.x/\nhttp://deb.debian.org/debian-security/\n\
                            http://mirror.example/debian/\nhttp://deb.debian.org/debian/\n";
        assert_eq!(debian_of(repositories), Some("http://mirror.example/debian"));
        assert_eq!(debian_of("http://archive.ubuntu.com/ubuntu/\ncdrom://[Debian]/debian/\n"), None);
    }
}
