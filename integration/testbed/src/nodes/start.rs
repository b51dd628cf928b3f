//! How several nodes become one.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Nodes, container,
    front::{Front, Way},
    node::{Node, Outfit},
    process,
    roll::Roll,
};
use crate::{
    Testbed,
    error::{Error, Result},
    openbao::{Api, Database, configure},
    site::Ground,
};

/// What the nodes are called, in messages, in their folders' names and among themselves; so many there can be.
static NAMES: [&str; 7] = ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6", "node-7"];

impl Nodes {
    pub(super) async fn set_up(testbed: &Testbed, count: usize) -> Result<Self> {
        let began = Instant::now();
        let names = NAMES.get(..count).filter(|names| names.len() >= 3).ok_or_else(|| Error::System {
            what: "a cluster of OpenBao has three to seven nodes",
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        let backstage = testbed.site().backstage.clone();
        let postgres = testbed.postgres();
        let (outfits, reaper, database, at) = match &testbed.site().ground {
            Ground::Machine => {
                let (outfits, line) = process::outfit(testbed.site(), names, postgres.port()).await?;
                let at = format!("127.0.0.1:{}", line.port());
                (outfits, None, Some(line), at)
            }
            Ground::Pod(pod) => {
                let (outfits, reaper) = container::outfit(testbed.site(), pod, names).await?;
                (outfits, Some(reaper), None, format!("{}:{}", pod.address()?, postgres.port()))
            }
        };
        let apis: Vec<Api> = outfits.iter().map(Outfit::api).collect::<Result<_>>()?;
        let roll = Roll::new(&apis);
        // From here on whatever is started ends with this.
        let front = |way| Front::start(&backstage, roll.clone(), way);
        let mut nodes = Self {
            leader: front(Way::Leader)?,
            standby: front(Way::Standby)?,
            turns: front(Way::Turns)?,
            nodes: outfits
                .into_iter()
                .zip(&apis)
                .enumerate()
                .map(|(index, (outfit, api))| Node::new(index, outfit, api, &roll))
                .collect(),
            root: apis[0].clone(),
            roll,
            took: Duration::ZERO,
            backstage,
            _database: database,
            reaper,
        };
        try_join_all(nodes.nodes.iter().map(Node::start_process)).await?;
        nodes.initialize().await?;
        nodes.settle().await?;
        let (config, reviews) = testbed.told();
        let databases = vec![Database::postgres_at(postgres, &at)];
        let leader = nodes.leader().await?.api();
        configure((&nodes.backstage, leader), config, databases, None, reviews).await?;
        nodes.took = began.elapsed();
        Ok(nodes)
    }

    /// Makes the first node a cluster of one, whom the others find and join.
    async fn initialize(&mut self) -> Result<()> {
        let shares = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
        let answer = self.nodes[0].request("PUT", "sys/init", Some(shares)).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (token, key) = (text(&answer["root_token"]), text(&answer["recovery_keys_base64"][0]));
        self.root.log_in(token.clone());
        for node in &mut self.nodes {
            node.initialized(token.clone(), key.clone());
        }
        Ok(())
    }
}
