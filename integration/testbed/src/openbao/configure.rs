//! What OpenBao is told: who may log in, and what database users it makes.

use serde_json::json;

use super::{OpenBao, api::Api};
use crate::{
    config::{Config, TokenType},
    error::Result,
    jwt::Claims,
    kubernetes::ApiServer,
    postgres::{ADMIN, Postgres},
};

/// Where Kubernetes logins are mounted, below `auth/`.
pub(crate) const KUBERNETES_MOUNT: &str = "kubernetes";

/// The role that the service logs in for.
pub(crate) const ROLE: &str = "pipeline";

/// The role of the `database` engine.
pub(crate) const DB_ROLE: &str = "pipeline";

const CREATE: &str = r#"CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE pipeline_reader"#;

/// Its sessions stay open, but can read nothing: what they could read, they could as members.
const REVOKE: &str = r#"DROP ROLE IF EXISTS "{{name}}""#;

impl OpenBao {
    pub(crate) async fn configure(
        &self,
        config: &Config,
        postgres: &Postgres,
        cluster: &ApiServer,
        authority: &str,
    ) -> Result<()> {
        let policy = self.run(|api| policy(api, config.revoke_allowed));
        let logins = self.run(|api| {
            let cluster = json!({
                "kubernetes_host": cluster.address(),
                "kubernetes_ca_cert": authority,
                "token_reviewer_jwt": cluster.reviewer(),
                "disable_local_ca_jwt": true,
            });
            logins(api, config.clone(), cluster)
        });
        let database = self.run(|api| {
            let connection = json!({
                "plugin_name": "postgresql-database-plugin",
                "connection_url": format!(
                    "postgresql://{{{{username}}}}:{{{{password}}}}@{}:{}/{}?sslmode=disable",
                    postgres.host(), postgres.port(), postgres.database(),
                ),
                "username": ADMIN,
                "password": postgres.admin_password(),
                "password_authentication": "scram-sha-256",
                "allowed_roles": [DB_ROLE],
            });
            database(api, config.clone(), connection)
        });
        tokio::try_join!(policy, logins, database).map(drop)
    }

    async fn run<F: Future<Output = Result<()>> + Send + 'static>(
        &self,
        work: impl FnOnce(Api) -> F,
    ) -> Result<()> {
        self.backstage.run(work(self.api.clone())).await
    }
}

/// Writes the service's rights: renewing and revoking its own token come with the policy `default`.
async fn policy(api: Api, revoke_allowed: bool) -> Result<()> {
    let mut rules =
        vec![(format!("database/creds/{DB_ROLE}"), "read"), ("sys/leases/renew".into(), "update")];
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

async fn database(api: Api, config: Config, connection: serde_json::Value) -> Result<()> {
    api.write("sys/mounts/database", json!({ "type": "database" })).await?;
    let role = json!({
        "db_name": "pipeline-db",
        "creation_statements": [CREATE],
        "revocation_statements": [REVOKE],
        "default_ttl": config.lease_ttl.as_secs(),
        "max_ttl": config.lease_max_ttl.as_secs(),
    });
    let role_path = format!("database/roles/{DB_ROLE}");
    tokio::try_join!(api.write("database/config/pipeline-db", connection), api.write(&role_path, role))
        .map(drop)
}
