//! Several OpenBao servers that are one: a cluster on raft.

mod container;
mod cut;
mod front;
mod line;
mod node;
mod origin;
mod process;
mod roll;
mod settings;
mod start;
mod switch;

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    Testbed,
    backstage::{Backstage, poll},
    error::{Error, Result},
    openbao::{Api, DB_ROLE},
    pod::reaper::Reaper,
};
pub use cut::Cut;
use front::Front;
use line::Line;
pub use node::Node;
pub use roll::NodeState;
use roll::Roll;

/// How long an election may take, on a machine that has much else to do.
const ELECTION: Duration = Duration::from_secs(60);

/// Three nodes of OpenBao or more that share their storage by raft and elect a leader, beside the one OpenBao of a
/// [`Testbed`]. They are set up for its PostgreSQL and its service account as that one is, and run as its servers do: as
/// processes or as containers.
///
/// They unseal themselves, with a key in a file. Since release 2.5 a standby answers reads by itself, and may answer with what
/// was true a tenth of a second ago.
///
/// Dropping it ends the nodes and removes their folders or containers, and waits until that is done. The same happens, without
/// anybody waiting, when the process ends in any other way.
#[derive(Debug)]
pub struct Nodes {
    leader: Front,
    standby: Front,
    turns: Front,
    nodes: Vec<Node>,
    roll: Roll,
    root: Api,
    took: Duration,
    backstage: Backstage,
    /// Between processes and the database.
    _database: Option<Line>,
    // Last: what removes the containers' rest goes after them.
    reaper: Option<Arc<Reaper>>,
}

impl Nodes {
    /// Starts so many nodes, three to seven, and waits until one leads and all have a vote.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if it is another number; else as for [`Testbed::start`]. Nothing that was started stays.
    pub async fn start(testbed: &Testbed, count: usize) -> Result<Self> {
        // Boxed: a caller's own futures would otherwise hold all of ours.
        Box::pin(Self::set_up(testbed, count)).await
    }

    /// All of them, whatever their state.
    pub fn all(&self) -> &[Node] {
        &self.nodes
    }

    /// How long the start took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Waits for a node that leads and is not cut off, for a minute at most.
    ///
    /// # Errors
    ///
    /// [`Error::Unanswered`] if none does.
    pub async fn leader(&self) -> Result<&Node> {
        let roll = self.roll.clone();
        self.found("a node that leads", move || {
            let roll = roll.clone();
            async move { roll.leader().await }
        })
        .await
    }

    /// Waits for a node that stands by and is not cut off, for a minute at most.
    ///
    /// # Errors
    ///
    /// [`Error::Unanswered`] if none does.
    pub async fn standby(&self) -> Result<&Node> {
        let roll = self.roll.clone();
        self.found("a node that stands by", move || {
            let roll = roll.clone();
            async move { roll.standby().await }
        })
        .await
    }

    /// The address of plain HTTP that passes each request on to the node after the one before, as a load balancer does that
    /// knows nothing of OpenBao. It passes over a node that took no connection or broke one off, until that answers again.
    /// A request that was under way there is lost.
    pub fn address(&self) -> String {
        self.turns.address()
    }

    /// The address of plain HTTP that passes each request on to whichever node leads then, as the service `vault-active` of
    /// the usual Helm chart does. While none leads, connections are closed without an answer.
    pub fn leader_address(&self) -> String {
        self.leader.address()
    }

    /// The address of plain HTTP that passes each request on to a node that stands by, the same one as long as it does.
    pub fn standby_address(&self) -> String {
        self.standby.address()
    }

    /// The token that may do everything.
    pub fn root_token(&self) -> &str {
        self.root.token()
    }

    /// Asks the leader for something as root: a path without `/v1/`, such as `sys/mounts`; an empty answer is `Null`.
    ///
    /// # Errors
    ///
    /// As for [`leader`](Self::leader), and [`Error::Answer`] with what it said if it refuses.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        self.leader().await?.request(method, path, body).await
    }

    /// The ids of the live leases of PostgreSQL's credentials.
    ///
    /// # Errors
    ///
    /// As for [`request`](Self::request).
    pub async fn leases(&self) -> Result<Vec<String>> {
        let prefix = format!("database/creds/{DB_ROLE}/");
        match self.request("LIST", &format!("sys/leases/lookup/{prefix}"), None).await {
            Ok(answer) => {
                let keys: Vec<String> =
                    serde_json::from_value(answer["data"]["keys"].clone()).unwrap_or_default();
                Ok(keys.into_iter().map(|key| prefix.clone() + &key).collect())
            }
            Err(Error::Answer { status, .. }) if status == "404" => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Waits until one node leads, all others stand by, and each has a vote: any one of three may go then.
    ///
    /// # Errors
    ///
    /// [`Error::Unanswered`] if that takes more than a minute.
    pub async fn settle(&self) -> Result<()> {
        let (roll, root) = (self.roll.clone(), self.root.token().to_owned());
        let settled = self.backstage.run(async move {
            poll(ELECTION, || async { Ok(roll.is_settled(&root).await.then_some(())) }).await
        });
        settled.await?.ok_or_else(|| never("a leader, and a vote for each node"))
    }

    /// The environment of a service that uses the testbed with these nodes: [`Testbed::environment`] with
    /// [`address`](Self::address) in `VAULT_ADDR`, and `LEADER_ADDR`, `STANDBY_ADDR` and `NODE_ADDRS` besides.
    pub fn environment(&self, testbed: &Testbed) -> Vec<(String, String)> {
        let addresses: Vec<String> = self.nodes.iter().map(Node::address).collect();
        let ours = [
            ("VAULT_ADDR", self.address()),
            ("TESTBED_ROOT_TOKEN", self.root_token().to_owned()),
            ("LEADER_ADDR", self.leader_address()),
            ("STANDBY_ADDR", self.standby_address()),
            ("NODE_ADDRS", addresses.join(",")),
        ];
        let mut variables = testbed.environment();
        variables.retain(|(name, _)| ours.iter().all(|(other, _)| name != other));
        variables.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        variables
    }

    /// The label that all their containers have, `name=value`; none if the nodes are processes.
    pub fn container_label(&self) -> Option<String> {
        self.reaper.as_ref().map(|reaper| reaper.label())
    }

    async fn found<F: Future<Output = Option<usize>> + Send>(
        &self,
        what: &str,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<&Node> {
        let found = self.backstage.run(async move { poll(ELECTION, || async { Ok(look().await) }).await });
        found.await?.and_then(|index| self.nodes.get(index)).ok_or_else(|| never(what))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // All end at the same time; the fields' own drops wait.
        self.nodes.iter().for_each(Node::release);
        self.nodes.clear();
        if let Some(reaper) = &self.reaper {
            reaper.nothing_under_way();
        }
    }
}

fn never(what: &str) -> Error {
    Error::Unanswered { request: what.into(), reason: format!("not within {ELECTION:?}") }
}
