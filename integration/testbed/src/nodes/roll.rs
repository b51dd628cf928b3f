//! Which of the nodes leads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::openbao::Api;

/// How long a node may take to say how it is. One that is paused says nothing.
const GREETING: Duration = Duration::from_millis(500);

/// How a node is, by what it says itself to whoever asks at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// It leads.
    Leader,
    /// It follows a leader, or waits for one.
    Standby,
    /// It is sealed, or not initialized yet.
    Sealed,
    /// It does not answer.
    Silent,
}

/// What can be asked of the nodes from everywhere: clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Roll(Arc<[Seat]>, Arc<Last>);

/// One node.
#[derive(Debug)]
struct Seat {
    api: Api,
    /// Whether it is cut off, and may go on saying that it leads when others have elected another.
    apart: AtomicBool,
    /// Whether a request failed there, and it has not answered since.
    out: AtomicBool,
}

/// Where to look first.
#[derive(Debug, Default)]
struct Last {
    leader: AtomicUsize,
    standby: AtomicUsize,
    turn: AtomicUsize,
}

impl Roll {
    /// None of the `apis` need know a token.
    pub(super) fn new(apis: &[Api]) -> Self {
        let seat = |api: &Api| Seat { api: api.clone(), apart: false.into(), out: false.into() };
        let last = Last { standby: 1.into(), ..Last::default() };
        Self(apis.iter().map(seat).collect(), Arc::new(last))
    }

    pub(super) fn address(&self, index: usize) -> &str {
        self.0[index].api.address()
    }

    /// Says of a node whether it is cut off.
    pub(super) fn set_apart(&self, index: usize, apart: bool) {
        self.0[index].apart.store(apart, Ordering::Relaxed);
    }

    /// Remembers that a request failed at a node.
    pub(super) fn set_out(&self, index: usize) {
        self.0[index].out.store(true, Ordering::Relaxed);
    }

    pub(super) async fn state(&self, index: usize) -> NodeState {
        let asked = timeout(GREETING, self.0[index].api.status("sys/health")).await;
        match asked.ok().flatten() {
            Some(200) => NodeState::Leader,
            Some(429 | 472 | 473) => NodeState::Standby,
            Some(_) => NodeState::Sealed,
            None => NodeState::Silent,
        }
    }

    /// The node that leads; none that is cut off counts.
    pub(super) async fn leader(&self) -> Option<usize> {
        self.find(NodeState::Leader, &self.1.leader).await
    }

    /// A node that stands by and is not cut off.
    pub(super) async fn standby(&self) -> Option<usize> {
        self.find(NodeState::Standby, &self.1.standby).await
    }

    /// The next one in turn that answered last time, or answers now; `None` if none does.
    pub(super) async fn in_turn(&self) -> Option<usize> {
        for _ in 0..self.0.len() {
            let index = self.1.turn.fetch_add(1, Ordering::Relaxed) % self.0.len();
            let seat = &self.0[index];
            if !seat.out.load(Ordering::Relaxed) {
                return Some(index);
            }
            if self.state(index).await != NodeState::Silent {
                seat.out.store(false, Ordering::Relaxed);
                return Some(index);
            }
        }
        None
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one leads, all others stand by, and the leader's configuration has a vote for each.
    pub(super) async fn is_settled(&self, root: &str) -> bool {
        let states = self.states().await;
        let count = |of| states.iter().filter(|&&state| state == of).count();
        if count(NodeState::Leader) != 1 || count(NodeState::Standby) + 1 != states.len() {
            return false;
        }
        let Some(leader) = states.iter().position(|&state| state == NodeState::Leader) else { return false };
        let mut api = self.0[leader].api.clone();
        api.log_in(root.to_owned());
        let answer = timeout(GREETING, api.request("GET", "sys/storage/raft/configuration", None)).await;
        let Ok(Ok(answer)) = answer else { return false };
        let servers = answer["data"]["config"]["servers"].as_array();
        let voters = servers.into_iter().flatten().filter(|server| server["voter"] == true);
        voters.count() == states.len()
    }

    async fn find(&self, wanted: NodeState, last: &AtomicUsize) -> Option<usize> {
        let index = last.load(Ordering::Relaxed);
        let apart = |index: usize| self.0[index].apart.load(Ordering::Relaxed);
        if !apart(index) && self.state(index).await == wanted {
            return Some(index);
        }
        let states = self.states().await;
        let found = (0..states.len()).find(|&index| states[index] == wanted && !apart(index))?;
        last.store(found, Ordering::Relaxed);
        Some(found)
    }

    async fn states(&self) -> Vec<NodeState> {
        join_all((0..self.0.len()).map(|index| self.state(index))).await
    }
}
