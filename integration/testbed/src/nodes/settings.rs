//! What a node is configured with.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The file with a node's configuration, in its folder.
pub(super) const CONFIGURATION: &str = "node.json";

/// The file with the key that a node is unsealed with, in its folder.
const KEY: &str = "seal-key";

/// Where a node listens, and what others are told.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// Host and port that the node listens on.
    pub(super) listen: String,
    /// Host and port that it listens on for the others.
    pub(super) listen_for_nodes: String,
    /// The address that clients are told.
    pub(super) api: String,
    /// Host and port that the others are told.
    pub(super) cluster: String,
    /// The address that other nodes find it at when they join.
    pub(super) join: String,
}

/// Writes what a node reads at its start into its folder, which it sees as `shown`; its storage is at `storage`.
pub(super) fn write(
    folder: &Path,
    (shown, storage): (&Path, &Path),
    name: &str,
    own: &Addresses,
    others: &[&Addresses],
    key: &[u8; 32],
) -> Result<()> {
    let path = folder.join(KEY);
    fs::write(&path, key).map_err(Error::file(path))?;
    let path = folder.join(CONFIGURATION);
    let settings = settings(&shown.join(KEY), storage, name, own, others);
    fs::write(&path, settings.to_string()).map_err(Error::file(path))
}

fn settings(key: &Path, storage: &Path, name: &str, own: &Addresses, others: &[&Addresses]) -> Value {
    let join: Vec<Value> = others.iter().map(|other| json!({ "leader_api_addr": other.join })).collect();
    json!({
        "storage": { "raft": {
            "path": storage,
            "node_id": name,
            "retry_join": join,
            // The default, 5, is for machines that are slower still: half a minute until a killed leader has a successor.
            "performance_multiplier": 2,
            // A node that has joined gets its vote when it is next looked at.
            "autopilot_update_interval": "250ms",
            "autopilot_reconcile_interval": "500ms",
        }},
        "seal": { "static": { "current_key": format!("file://{}", key.display()), "current_key_id": "testbed" } },
        "listener": [{ "tcp": {
            "address": own.listen,
            "cluster_address": own.listen_for_nodes,
            "tls_disable": true,
        }}],
        "api_addr": own.api,
        "cluster_addr": format!("https://{}", own.cluster),
        "log_level": "info",
    })
}

/// All but one of them.
pub(super) fn others<T>(all: &[T], but: usize) -> Vec<&T> {
    all.iter().enumerate().filter(|(index, _)| *index != but).map(|(_, other)| other).collect()
}

/// A key that storage is sealed with which holds nothing of anybody's.
pub(super) fn seal_key() -> [u8; 32] {
    std::array::from_fn(|_| fastrand::u8(..))
}
