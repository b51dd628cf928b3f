//! What database users OpenBao makes, and how.

use serde_json::{Value, json};

use super::api::Api;
use crate::{
    config::Config,
    error::Result,
    mariadb::{self, MariaDb},
    mysql::{self, MySql},
    postgres::{self, Postgres},
    redis::{self, Redis},
};

/// The role of the `database` engine for PostgreSQL.
pub(crate) const DB_ROLE: &str = "pipeline";

/// The role of the `database` engine for MariaDB.
pub(crate) const MARIADB_ROLE: &str = "pipeline-mariadb";

/// The role of the `database` engine for MySQL.
pub(crate) const MYSQL_ROLE: &str = "pipeline-mysql";

/// The static role of the `database` engine for MySQL.
pub(crate) const MYSQL_STATIC_ROLE: &str = "pipeline-mysql-static";

/// The role of the `database` engine for Valkey.
pub(crate) const VALKEY_ROLE: &str = "pipeline-valkey";

/// The role of the `database` engine for Redis.
pub(crate) const REDIS_ROLE: &str = "pipeline-redis";

/// A connection of the `database` engine and its role, or its two.
#[derive(Debug)]
pub(crate) struct Database {
    /// The role's name.
    pub(super) role: &'static str,
    name: &'static str,
    connection: Value,
    creation: &'static str,
    revocation: Vec<&'static str>,
    /// A static role, and the user whose password it replaces.
    fixed: Option<(&'static str, &'static str)>,
}

impl Database {
    /// A member of the role that may read.
    pub(crate) fn postgres(postgres: &Postgres) -> Self {
        Self::postgres_at(postgres, &format!("{}:{}", postgres.host(), postgres.port()))
    }

    /// As [`Database::postgres`], for a server that reaches it at another host and port.
    pub(crate) fn postgres_at(postgres: &Postgres, at: &str) -> Self {
        let address = format!("{at}/{}", postgres.database());
        Self {
            role: DB_ROLE,
            name: "pipeline-db",
            connection: json!({
                "plugin_name": "postgresql-database-plugin",
                "connection_url": format!(
                    "postgresql://{{{{username}}}}:{{{{password}}}}@{address}?sslmode=disable"
                ),
                "username": postgres::ADMIN,
                "password": postgres.admin_password(),
                "password_authentication": "scram-sha-256",
            }),
            creation: r#"CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE pipeline_reader"#,
            // Its sessions stay open, but can read nothing: what they could read, they could as members.
            revocation: vec![r#"DROP ROLE IF EXISTS "{{name}}""#],
            fixed: None,
        }
    }

    /// A user with a right of its own: a role would be one more thing to activate.
    pub(crate) fn mariadb(mariadb: &MariaDb) -> Self {
        Self {
            role: MARIADB_ROLE,
            name: "pipeline-mariadb",
            connection: json!({
                "plugin_name": "mysql-database-plugin",
                "connection_url": format!(
                    "{{{{username}}}}:{{{{password}}}}@tcp({}:{})/", mariadb.host(), mariadb.port(),
                ),
                "username": mariadb::ADMIN,
                "password": mariadb.admin_password(),
            }),
            creation: "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT SELECT ON app.* TO '{{name}}'@'%';",
            // Its sessions stay open and go on reading: they hold rights to a database until `USE`.
            revocation: vec!["DROP USER IF EXISTS '{{name}}'@'%'"],
            fixed: None,
        }
    }

    /// A user with a right of its own, as on MariaDB. The classic `GRANT … IDENTIFIED BY` is a syntax error here.
    pub(crate) fn mysql(mysql: &MySql) -> Self {
        Self {
            role: MYSQL_ROLE,
            name: "pipeline-mysql",
            connection: json!({
                "plugin_name": "mysql-database-plugin",
                "connection_url": format!(
                    "{{{{username}}}}:{{{{password}}}}@tcp({}:{})/", mysql.host(), mysql.port(),
                ),
                "username": mysql::ADMIN,
                "password": mysql.admin_password(),
            }),
            creation: "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT SELECT ON app.* TO '{{name}}'@'%';",
            revocation: vec!["DROP USER IF EXISTS '{{name}}'@'%'"],
            fixed: Some((MYSQL_STATIC_ROLE, mysql::STATIC_USER)),
        }
    }

    /// A user of the access control list; revoking it closes its connections, and takes no statement.
    pub(crate) fn redis(redis: &Redis) -> Self {
        Self {
            role: redis.role(),
            name: redis.role(),
            connection: json!({
                "plugin_name": "redis-database-plugin",
                "host": redis.host(),
                "port": redis.port(),
                "username": redis::ADMIN,
                "password": redis.admin_password(),
            }),
            // A pool unwatches before it hands a connection out.
            creation: r#"["~measurements", "+@read", "+@connection", "+unwatch"]"#,
            revocation: Vec::new(),
            fixed: None,
        }
    }

    pub(super) async fn write(self, api: &Api, config: &Config) -> Result<()> {
        let mut connection = self.connection;
        let fixed = self.fixed.map(|(role, _)| role);
        connection["allowed_roles"] = std::iter::once(self.role).chain(fixed).collect();
        let role = json!({
            "db_name": self.name,
            "creation_statements": [self.creation],
            "revocation_statements": self.revocation,
            "default_ttl": config.lease_ttl.as_secs(),
            "max_ttl": config.lease_max_ttl.as_secs(),
        });
        let (connection_path, role_path) =
            (format!("database/config/{}", self.name), format!("database/roles/{}", self.role));
        tokio::try_join!(api.write(&connection_path, connection), api.write(&role_path, role))?;
        let Some((role, user)) = self.fixed else { return Ok(()) };
        let day = json!({ "db_name": self.name, "username": user, "rotation_period": 24 * 60 * 60 });
        // Its first password is set at once, for which there has to be a connection.
        api.write(&format!("database/static-roles/{role}"), day).await
    }

    /// The paths of its credentials.
    pub(super) fn paths(&self) -> impl Iterator<Item = String> {
        let fixed = self.fixed.map(|(role, _)| format!("database/static-creds/{role}"));
        std::iter::once(format!("database/creds/{}", self.role)).chain(fixed)
    }
}
