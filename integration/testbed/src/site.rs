//! Where a testbed's servers are set up.

use crate::{backstage::Backstage, config::Report, pod::Pod};

/// What every server needs to be set up.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) backstage: Backstage,
    pub(crate) ground: Ground,
    pub(crate) report: Report,
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
