//! What OpenBao is told: who may log in, and what users it makes.

use serde_json::json;

use super::{OpenBao, api::Api, broker::Broker, databases::Database};
use crate::{
    backstage::Backstage,
    config::{Config, TokenType},
    error::Result,
    jwt::Claims,
    kubernetes::ApiServer,
};

/// Where Kubernetes logins are mounted, below `auth/`.
pub(crate) const KUBERNETES_MOUNT: &str = "kubernetes";

/// The role that the service logs in for.
pub(crate) const ROLE: &str = "pipeline";

impl OpenBao {
    pub(crate) async fn configure(
        &self,
        config: &Config,
        databases: Vec<Database>,
        broker: Option<Broker>,
        cluster: &ApiServer,
    ) -> Result<()> {
        configure((&self.backstage, &self.api), config, databases, broker, cluster).await
    }
}

/// Tells a server that knows nothing yet, or one of several that share what they know.
pub(crate) async fn configure(
    (backstage, api): (&Backstage, &Api),
    config: &Config,
    databases: Vec<Database>,
    broker: Option<Broker>,
    cluster: &ApiServer,
) -> Result<()> {
    let paths = databases.iter().flat_map(Database::paths);
    let paths: Vec<String> = paths.chain(broker.as_ref().map(|broker| broker.path.clone())).collect();
    let policy = backstage.run(policy(api.clone(), paths, config.revoke_allowed));
    let logins = backstage.run(logins(api.clone(), config.clone(), cluster.settings(None)));
    let databases = backstage.run(mount(api.clone(), config.clone(), databases));
    let broker = backstage.run(users_of(api.clone(), config.clone(), broker));
    tokio::try_join!(policy, logins, databases, broker).map(drop)
}

/// Writes the service's rights: renewing and revoking its own token come with the policy `default`.
async fn policy(api: Api, paths: Vec<String>, revoke_allowed: bool) -> Result<()> {
    let mut rules: Vec<_> = paths.into_iter().map(|path| (path, "read")).collect();
    rules.push(("sys/leases/renew".into(), "update"));
    if revoke_allowed {
        rules.push(("sys/leases/revoke".into(), "update"));
    }
    let rules: Vec<String> = rules
        .iter()
        .map(|(path, right)| format!("path \"{path}\" {{ capabilities = [\"{right}\"] }}\n"))
        .collect();
    api.write(&format!("sys/policies/acl/{ROLE}"), json!({ "policy": rules.concat() })).await
}

async fn logins(api: Api, config: Config, cluster: serde_json::Value) -> Result<()> {
    api.write(&format!("sys/auth/{KUBERNETES_MOUNT}"), json!({ "type": "kubernetes" })).await?;
    let account = Claims::default();
    let role = json!({
        "bound_service_account_names": [account.name],
        "bound_service_account_namespaces": [account.namespace],
        "audience": account.audience,
        "token_policies": [ROLE],
        "token_ttl": config.token_ttl.as_secs(),
        "token_max_ttl": config.token_max_ttl.as_secs(),
        "token_num_uses": config.token_num_uses,
        "token_type": match config.token_type {
            TokenType::Service => "service",
            TokenType::Batch => "batch",
        },
    });
    let config_path = format!("auth/{KUBERNETES_MOUNT}/config");
    let role_path = format!("auth/{KUBERNETES_MOUNT}/role/{ROLE}");
    tokio::try_join!(api.write(&config_path, cluster), api.write(&role_path, role)).map(drop)
}

async fn users_of(api: Api, config: Config, broker: Option<Broker>) -> Result<()> {
    match broker {
        Some(broker) => broker.write(&api, &config).await,
        None => Ok(()),
    }
}

async fn mount(api: Api, config: Config, databases: Vec<Database>) -> Result<()> {
    api.write("sys/mounts/database", json!({ "type": "database" })).await?;
    for database in databases {
        database.write(&api, &config).await?;
    }
    Ok(())
}
