//! Where a testbed's servers are set up.

use crate::{backstage::Backstage, config::Report, error::Result, launcher::Launcher, pod::Pod};

/// What every server needs to be set up.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) backstage: Backstage,
    pub(crate) ground: Ground,
    pub(crate) report: Report,
}

impl Site {
    /// With a network of its own for these ports, where it is containers that run the servers.
    pub(crate) async fn new(launcher: Launcher, ports: Vec<u16>, report: Report) -> Result<Self> {
        let backstage = Backstage::new()?;
        let ground = match launcher {
            Launcher::Containers => Ground::Pod(Pod::start(ports, report).await?),
            Launcher::Processes | Launcher::Auto => Ground::Machine,
        };
        Ok(Self { backstage, ground, report })
    }
}

/// What runs the servers.
#[derive(Clone, Debug)]
pub(crate) enum Ground {
    /// This machine, as processes.
    Machine,
    /// Containers with a network of their own.
    Pod(Pod),
}

impl Ground {
    /// The address that servers listen on: inside a pod, also the one that its published ports lead to.
    pub(crate) fn listen(&self) -> &'static str {
        match self {
            Self::Machine => "127.0.0.1",
            Self::Pod(_) => "0.0.0.0",
        }
    }
}
