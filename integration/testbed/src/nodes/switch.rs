//! Who is cut off from whom, where nodes are processes.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::watch;

use super::{cut::Cut, origin};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// A node.
    Node(usize),
    /// Whoever uses the nodes.
    Client,
    /// The database.
    Database,
}

/// Says who is cut off; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where each node works, by which its connections are known.
    folders: Vec<PathBuf>,
    cuts: watch::Sender<Vec<Option<Cut>>>,
}

impl Switch {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        let cuts = watch::Sender::new(vec![None; folders.len()]);
        Self(Arc::new(Inner { folders, cuts }))
    }

    /// Cuts a node off, or no longer. What was held back arrives then, as on a network that sends again what was lost.
    pub(super) fn set(&self, index: usize, cut: Option<Cut>) {
        self.0.cuts.send_modify(|cuts| cuts[index] = cut);
    }

    /// The node that made a connection from one port to another, if it still has it.
    pub(super) async fn node(&self, from: u16, to: u16) -> Option<Party> {
        let inner = self.0.clone();
        let looked = tokio::task::spawn_blocking(move || origin::of(from, to, &inner.folders));
        looked.await.ok().flatten().map(Party::Node)
    }

    /// Waits until nothing stands between two.
    pub(super) async fn passable(&self, pair: (Party, Party)) {
        // It cannot end before we do.
        let _ = self.0.cuts.subscribe().wait_for(|cuts| !separate(cuts, pair)).await;
    }
}

fn separate(cuts: &[Option<Cut>], (one, other): (Party, Party)) -> bool {
    let is_cut = |party: Party, from: Party| match party {
        Party::Node(index) => match cuts[index] {
            Some(Cut::Everybody) => true,
            Some(Cut::Nodes) => matches!(from, Party::Node(_)),
            None => false,
        },
        Party::Client | Party::Database => false,
    };
    one != other && (is_cut(one, other) || is_cut(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_between_the_node_and_those_it_is_cut_from() {
        use Party::{Client, Database, Node};
        let cuts = [None, Some(Cut::Nodes), Some(Cut::Everybody)];
        let table = [
            ((Client, Node(0)), false),
            ((Node(0), Database), false),
            ((Node(0), Node(1)), true),
            ((Node(1), Node(0)), true),
            ((Client, Node(1)), false),
            ((Node(1), Database), false),
            ((Node(0), Node(2)), true),
            ((Node(2), Node(0)), true),
            ((Client, Node(2)), true),
            ((Node(2), Database), true),
            // A node may well talk to itself.
            ((Node(2), Node(2)), false),
        ];
        for (pair, separated) in table {
            assert_eq!(separate(&cuts, pair), separated, "{pair:?}");
        }
    }
}
