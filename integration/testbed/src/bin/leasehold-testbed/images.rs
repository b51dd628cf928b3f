//! `cargo testbed images`: images with the interface of the public ones, where those cannot be pulled.

mod debian;
mod docker;
mod openbao;
mod server;
mod steps;
mod work;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{interrupt::Interrupt, output};
use debian::Debian;
use openbao::Bao;
pub(crate) use server::Server;
use server::revision;
use steps::Steps;
use work::Work;

/// Options of `cargo testbed images`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which to build: all of them, unless some are named.
    servers: Vec<Server>,
    /// Builds also what is there and current.
    #[arg(long)]
    force: bool,
    /// Builds only what has no image at all: neither one that is there, nor a public one that can be pulled.
    #[arg(long, conflicts_with = "force")]
    if_missing: bool,
}

/// Builds what was asked for, and says how long each step took.
pub(crate) async fn run(options: &Options, interrupt: Interrupt) -> ExitCode {
    output::verdict(build(options, interrupt).await)
}

async fn build(options: &Options, interrupt: Interrupt) -> Result<()> {
    let steps = Steps::new(interrupt);
    docker::answers(&steps).await?;
    let folder = leasehold_testbed::target_folder().join("testbed").join("images");
    let _lock = lock(&folder, &steps).await?;
    let work = Work::new(folder.join("work"))?;
    let mut debian = Debian::new(options.force);
    for server in chosen(&options.servers) {
        if options.if_missing && is_there(server).await {
            continue;
        }
        let bao = match server {
            Server::Openbao => Some(Bao::find(&steps).await?),
            _ => None,
        };
        let source = bao.as_ref().map_or_else(|| debian.revision(), |bao| bao.version().to_owned());
        let revision = revision(server.files(), &source);
        if !options.force && docker::revision(server.tag(), &steps).await?.as_ref() == Some(&revision) {
            eprintln!("{server}: {} is already there", server.tag());
            continue;
        }
        let context = work.folder(server.name())?;
        let version = match bao {
            Some(bao) => bao.install(&context.join("root"), &work, &steps).await?,
            None => debian.version_of(server, &work, &steps).await?,
        };
        for (name, content) in server.files() {
            work::write(&context.join(name), content)?;
        }
        let labels = [(docker::VERSION, version), (docker::REVISION, revision)];
        docker::build(server, &context, &labels, options.force, &steps).await?;
    }
    Ok(())
}

/// In one order, each once.
fn chosen(servers: &[Server]) -> impl Iterator<Item = Server> {
    Server::ALL.into_iter().filter(|server| servers.is_empty() || servers.contains(server))
}

async fn is_there(server: Server) -> bool {
    match server.image().obtain(|line| eprintln!("{line}")).await {
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
