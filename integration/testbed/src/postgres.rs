//! A PostgreSQL server.

mod container;
pub(crate) mod process;

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::{
    backstage::Backstage,
    error::{Error, Result, chain},
    ports::Port,
    server::{Server, Superuser, disturbed},
    site::{Ground, Site},
};

/// The database that the service uses.
const DATABASE: &str = "app";

/// The role that OpenBao connects as.
pub(crate) const ADMIN: &str = "vault_admin";

/// How long a statement may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A PostgreSQL server with a database `app` and, in it, a table `measurements(id, value)` of 100 rows.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: Port,
    superuser: Superuser,
    admin_password: SecretString,
    backstage: Backstage,
}

disturbed!(Postgres);

/// What a server of nobody's data is told: nothing is flushed, and the rest keeps the copy and the start small.
const SETTINGS: &[(&str, &str)] = &[
    ("password_encryption", "scram-sha-256"),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "16MB"),
    ("max_connections", "60"),
    ("min_wal_size", "4MB"),
    ("max_wal_size", "64MB"),
    ("log_line_prefix", "%m [%p] %u "),
];

impl Postgres {
    pub(crate) async fn launch(site: &Site, port: Port) -> Result<Self> {
        let (server, superuser) = match &site.ground {
            Ground::Machine => process::server(site, &port).await?,
            Ground::Pod(pod) => container::server(site, pod, &port).await?,
        };
        let postgres = Self::start(site, server, port, superuser).await?;
        postgres.execute(&format!("ALTER ROLE {ADMIN} PASSWORD '{}'", postgres.admin_password())).await?;
        Ok(postgres)
    }

    /// Starts a server that has its data, or makes it at its start.
    pub(crate) async fn start(site: &Site, server: Server, port: Port, superuser: Superuser) -> Result<Self> {
        let (admin_password, backstage) = (password().into(), site.backstage.clone());
        let postgres = Self { server, port, superuser, admin_password, backstage };
        postgres.start_again().await?;
        Ok(postgres)
    }

    /// The host it listens on.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on, the same after every start.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The name of the service's database.
    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// The service's database's address, without credentials.
    pub fn url(&self) -> String {
        format!("postgres://{}:{}/{DATABASE}", self.host(), self.port())
    }

    /// The superuser's way into the service's database, as a connection URL.
    pub fn superuser_url(&self) -> String {
        let port = self.port();
        let (user, host) = match &self.superuser {
            // Where a host's name is, and not a parameter: URL parsers such as sqlx's refuse a user without a host.
            Superuser::Socket(folder) => {
                ("postgres".to_owned(), folder.to_string_lossy().replace('/', "%2F"))
            }
            Superuser::Password(password) => {
                (format!("postgres:{}", password.expose_secret()), self.host().to_owned())
            }
        };
        format!("postgres://{user}@{host}:{port}/{DATABASE}")
    }

    /// Its version, as it says itself.
    pub async fn version(&self) -> Result<String> {
        Ok(self.column("SHOW server_version").await?.concat())
    }

    /// Starts it again after [`Postgres::kill`] or [`Postgres::stop`], and waits until it answers.
    pub async fn start_again(&self) -> Result<()> {
        // The template has no other database until it is made.
        let config = self.superuser("postgres");
        let answers = move || {
            let config = config.clone();
            async move { query(&config, "SELECT 1").await.is_ok() }
        };
        self.server.start(answers).await
    }

    /// Runs statements in the service's database as the superuser.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.query(sql).await.map(drop)
    }

    /// Runs statements in the service's database as the superuser, and returns the rows as text.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.query_in(DATABASE, sql).await
    }

    /// The users that OpenBao has made and not yet dropped.
    pub async fn dynamic_users(&self) -> Result<Vec<String>> {
        self.column("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%' ORDER BY rolname").await
    }

    /// How many sessions a user has open; PostgreSQL forgets whose they were when the user is dropped.
    pub async fn sessions_of(&self, user: &str) -> Result<usize> {
        let users = self.column("SELECT usename FROM pg_stat_activity WHERE usename IS NOT NULL").await?;
        Ok(users.iter().filter(|&other| other == user).count())
    }

    /// How many sessions are open whose user was dropped.
    pub async fn orphaned_sessions(&self) -> Result<usize> {
        let orphans =
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename IS NULL";
        Ok(self.column(orphans).await?.len())
    }

    pub(crate) fn admin_password(&self) -> &str {
        self.admin_password.expose_secret()
    }

    /// The superuser's password, where it is not a socket that it comes in through.
    pub(crate) fn superuser_password(&self) -> Option<&str> {
        match &self.superuser {
            Superuser::Socket(_) => None,
            Superuser::Password(password) => Some(password.expose_secret()),
        }
    }

    /// An error with the end of its log.
    pub(crate) async fn failed(&self, reason: &str) -> Error {
        self.server.failed(reason).await
    }

    async fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.query(sql).await?.into_iter().flatten().flatten().collect())
    }

    async fn query_in(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let (config, sql) = (self.superuser(database), sql.to_owned());
        self.backstage.run(async move { query(&config, &sql).await }).await
    }

    /// The way into the service's database as the superuser.
    pub(crate) fn administrator(&self) -> tokio_postgres::Config {
        self.superuser(DATABASE)
    }

    fn superuser(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.port(self.port()).user("postgres").dbname(database);
        match &self.superuser {
            Superuser::Socket(folder) => config.host_path(folder),
            Superuser::Password(password) => config.host(self.host()).password(password.expose_secret()),
        };
        config
    }
}

/// What a service finds: a table that it may read, through a role that OpenBao may pass on.
async fn fill(postgres: &Postgres) -> Result<()> {
    postgres.query_in("postgres", &format!("CREATE DATABASE {DATABASE}")).await?;
    postgres
        .execute(&format!(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC;
             CREATE ROLE pipeline_reader NOLOGIN;
             CREATE ROLE {ADMIN} LOGIN CREATEROLE;
             GRANT pipeline_reader TO {ADMIN} WITH ADMIN OPTION;
             CREATE TABLE measurements (
                 id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, value double precision NOT NULL);
             INSERT INTO measurements (value) SELECT n / 10.0 FROM generate_series(1, 100) AS n;
             GRANT SELECT ON measurements TO pipeline_reader"
        ))
        .await
}

/// A password for an administrator.
pub(crate) fn password() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(24).collect()
}

/// Opens a session, runs statements, and returns the rows as text.
pub(crate) async fn query(config: &tokio_postgres::Config, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let unanswered = |reason: String| Error::Unanswered { request: format!("PostgreSQL: {sql}"), reason };
    let failed = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(answer) => Error::Answer {
            server: "PostgreSQL",
            request: sql.into(),
            status: answer.code().code().into(),
            body: answer.message().into(),
        },
        None => unanswered(chain(&error)),
    };
    let work = async {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        let connection = tokio::spawn(connection);
        let answer = client.simple_query(sql).await.map_err(failed);
        drop(client);
        let _ = connection.await;
        answer
    };
    let messages =
        timeout(PATIENCE, work).await.map_err(|_| unanswered(format!("silence for {PATIENCE:?}")))??;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}
