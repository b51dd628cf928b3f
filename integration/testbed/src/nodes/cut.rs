//! How a node is cut off.

use super::{container::Cable, switch::Switch};
use crate::error::{Error, Result};

/// Who a node is cut off from. Nothing is refused: what is said does not arrive, and connections stay open, as on a network
/// that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// The other nodes. Clients and the database are there, and a leader goes on answering until it has noticed, which takes
    /// a few seconds.
    Nodes,
    /// The other nodes, clients and the database.
    Everybody,
}

/// What a node's connections go through.
#[derive(Debug)]
pub(super) enum Wire {
    /// What stands between processes; the node has this number there.
    Switch(Switch, usize),
    /// A network of its own.
    Cable(Cable),
}

impl Wire {
    /// Cuts the node off, instead of any cut before.
    pub(super) async fn cut(&self, cut: Cut) -> Result<()> {
        match self {
            Self::Switch(..) if !cfg!(target_os = "linux") => Err(Error::System {
                what: "a process can be cut off on Linux only; use containers",
                source: std::io::ErrorKind::Unsupported.into(),
            }),
            Self::Switch(switch, index) => {
                switch.set(*index, Some(cut));
                Ok(())
            }
            Self::Cable(cable) => cable.cut(cut).await,
        }
    }

    /// Undoes it.
    pub(super) async fn mend(&self) -> Result<()> {
        match self {
            Self::Switch(switch, index) => {
                switch.set(*index, None);
                Ok(())
            }
            Self::Cable(cable) => cable.mend().await,
        }
    }
}
