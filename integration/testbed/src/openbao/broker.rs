//! What RabbitMQ users OpenBao makes, and how.

use serde_json::{Value, json};

use super::api::Api;
use crate::{
    config::Config,
    error::Result,
    rabbitmq::{ADMIN, RabbitMq},
};

/// Where the engine `rabbitmq` is mounted.
pub(crate) const RABBITMQ_MOUNT: &str = "rabbitmq";

/// The role of the engine `rabbitmq`.
pub(crate) const RABBITMQ_ROLE: &str = "pipeline-rabbitmq";

/// The connection of the engine `rabbitmq`, and its one role.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The path of its credentials.
    pub(super) path: String,
    connection: Value,
    virtual_hosts: Value,
}

impl Broker {
    /// A user who may declare, write to and read from what is called `measurements` or begins so. Revoking it closes its
    /// connections.
    pub(crate) fn new(rabbitmq: &RabbitMq) -> Self {
        Self {
            path: rabbitmq.path(),
            connection: json!({
                "connection_uri": rabbitmq.management_url(),
                "username": ADMIN,
                "password": rabbitmq.admin_password(),
                "verify_connection": true,
            }),
            virtual_hosts: json!({
                rabbitmq.virtual_host(): {
                    "configure": "^measurements",
                    // A queue is written to through the exchange without a name.
                    "write": r"^(amq\.default$|measurements)",
                    "read": "^measurements",
                },
            }),
        }
    }

    pub(super) async fn write(self, api: &Api, config: &Config) -> Result<()> {
        api.write(&format!("sys/mounts/{RABBITMQ_MOUNT}"), json!({ "type": "rabbitmq" })).await?;
        let lease = json!({ "ttl": config.lease_ttl.as_secs(), "max_ttl": config.lease_max_ttl.as_secs() });
        let role = json!({ "vhosts": self.virtual_hosts.to_string() });
        let path = |of: &str| format!("{RABBITMQ_MOUNT}/{of}");
        let [connection_path, lease_path] = [path("config/connection"), path("config/lease")];
        let role_path = path(&format!("roles/{RABBITMQ_ROLE}"));
        tokio::try_join!(
            api.write(&connection_path, self.connection),
            api.write(&lease_path, lease),
            api.write(&role_path, role),
        )
        .map(drop)
    }
}
