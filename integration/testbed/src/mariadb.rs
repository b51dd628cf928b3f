//! A MariaDB server.

mod container;
mod process;
mod proof;
mod session;
mod wire;

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    backstage::Backstage,
    error::Result,
    openbao::MARIADB_ROLE,
    ports::Port,
    postgres::password,
    server::{Server, Superuser, disturbed},
    site::{Ground, Site},
};
pub use session::MariaDbSession;
pub(crate) use wire::{Address, Connection};

/// The database that the service uses.
const DATABASE: &str = "app";

/// The user that OpenBao connects as.
pub(crate) const ADMIN: &str = "vault_admin";

/// A MariaDB server with a database `app` and, in it, a table `measurements(id, value)` of 100 rows.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
    port: Port,
    superuser: Superuser,
    admin_password: SecretString,
    backstage: Backstage,
}

disturbed!(MariaDb);

/// What a server of nobody's data is told: nothing is flushed, and the rest keeps the copy and the start small. Without
/// names, no client is `localhost`.
const SETTINGS: &[(&str, &str)] = &[
    ("skip_name_resolve", "ON"),
    ("max_connections", "60"),
    ("innodb_flush_method", "nosync"),
    ("innodb_flush_log_at_trx_commit", "2"),
    ("innodb_doublewrite", "0"),
    ("innodb_data_file_path", "ibdata1:5M:autoextend"),
    ("innodb_autoextend_increment", "1"),
    ("innodb_temp_data_file_path", "ibtmp1:5M:autoextend"),
    ("innodb_log_file_size", "4M"),
    ("innodb_buffer_pool_size", "8M"),
    ("innodb_buffer_pool_dump_at_shutdown", "0"),
    ("key_buffer_size", "1M"),
    ("aria_pagecache_buffer_size", "1M"),
];

impl MariaDb {
    pub(crate) async fn launch(site: &Site, port: Port) -> Result<Self> {
        let (server, superuser) = match &site.ground {
            Ground::Machine => process::server(site, &port).await?,
            Ground::Pod(pod) => container::server(site, pod, &port).await?,
        };
        let mariadb = Self::start(site, server, port, superuser).await?;
        let (admin, password) = (ADMIN, mariadb.admin_password());
        mariadb.execute(&format!("ALTER USER '{admin}'@'%' IDENTIFIED BY '{password}'")).await?;
        Ok(mariadb)
    }

    /// Starts a server that has its data, or makes it at its start.
    async fn start(site: &Site, server: Server, port: Port, superuser: Superuser) -> Result<Self> {
        let (admin_password, backstage) = (password().into(), site.backstage.clone());
        let mariadb = Self { server, port, superuser, admin_password, backstage };
        mariadb.start_again().await?;
        Ok(mariadb)
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

    /// The database's address, without credentials.
    pub fn url(&self) -> String {
        format!("mysql://{}:{}/{}", self.host(), self.port(), self.database())
    }

    /// The role of the engine `database` to ask for credentials.
    pub fn role(&self) -> &'static str {
        MARIADB_ROLE
    }

    /// Its version, as it says itself.
    pub async fn version(&self) -> Result<String> {
        Ok(self.column("SELECT version()").await?.concat())
    }

    /// Starts it again after [`MariaDb::kill`] or [`MariaDb::stop`], and waits until it answers.
    pub async fn start_again(&self) -> Result<()> {
        let (address, user) = (self.superuser_address(), self.superuser.clone());
        let answers = move || {
            let (address, user) = (address.clone(), user.clone());
            async move { Connection::open(NAME, &address, ROOT, user.password(), "mysql").await.is_ok() }
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

    /// Opens a session in the service's database, over TCP.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`](crate::Error::Answer) with status `1045` when the server does not accept the credentials.
    pub async fn log_in(&self, user: &str, password: &str) -> Result<MariaDbSession> {
        let address = Address::Tcp(self.port());
        MariaDbSession::open(&self.backstage, NAME, address, user, password, DATABASE).await
    }

    /// The users that OpenBao has made and not yet dropped.
    pub async fn dynamic_users(&self) -> Result<Vec<String>> {
        self.column("SELECT user FROM mysql.global_priv WHERE user LIKE 'v-%' ORDER BY user").await
    }

    /// How many sessions a user has open, which MariaDB knows also when the user was dropped.
    pub async fn sessions_of(&self, user: &str) -> Result<usize> {
        let users = self.column("SELECT user FROM information_schema.processlist").await?;
        Ok(users.iter().filter(|&other| other == user).count())
    }

    /// How many sessions are open whose user was dropped.
    pub async fn orphaned_sessions(&self) -> Result<usize> {
        let orphans = "SELECT id FROM information_schema.processlist WHERE user LIKE 'v-%'
                       AND user NOT IN (SELECT user FROM mysql.global_priv)";
        Ok(self.column(orphans).await?.len())
    }

    pub(crate) fn admin_password(&self) -> &str {
        self.admin_password.expose_secret()
    }

    async fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.query(sql).await?.into_iter().flatten().flatten().collect())
    }

    async fn query_in(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let (address, password) = (self.superuser_address(), self.superuser.password());
        MariaDbSession::open(&self.backstage, NAME, address, ROOT, password, database).await?.query(sql).await
    }

    fn superuser_address(&self) -> Address {
        match &self.superuser {
            Superuser::Socket(socket) => Address::Unix(socket.clone()),
            Superuser::Password(_) => Address::Tcp(self.port()),
        }
    }
}

impl Superuser {
    fn password(&self) -> &str {
        match self {
            Self::Socket(_) => "",
            Self::Password(password) => password.expose_secret(),
        }
    }
}

const ROOT: &str = "root";

/// The server's name, in errors.
const NAME: &str = "MariaDB";

/// What a service finds: a table that it may read, through a user that may pass the right on, and close sessions.
///
/// There is nobody without a name: such a user at `localhost` would be preferred to a named one at `%`.
async fn fill(mariadb: &MariaDb, superuser_at: &str) -> Result<()> {
    let others = format!(
        "SELECT CONCAT('DROP USER ''', user, '''@''', host, ''';') FROM mysql.global_priv
         WHERE user = '' AND host <> '' OR user = '{ROOT}' AND host <> '{superuser_at}'"
    );
    let others: String = mariadb.query_in("mysql", &others).await?.into_iter().flatten().flatten().collect();
    mariadb
        .query_in(
            "mysql",
            &format!(
                "{others}
                 CREATE DATABASE {DATABASE};
                 CREATE TABLE {DATABASE}.measurements (
                     id bigint PRIMARY KEY AUTO_INCREMENT, value double NOT NULL);
                 INSERT INTO {DATABASE}.measurements (value)
                     SELECT seq / 10.0 FROM {DATABASE}.seq_1_to_100;
                 CREATE USER '{ADMIN}'@'%';
                 GRANT CREATE USER, CONNECTION ADMIN ON *.* TO '{ADMIN}'@'%';
                 GRANT SELECT ON {DATABASE}.* TO '{ADMIN}'@'%' WITH GRANT OPTION"
            ),
        )
        .await
        .map(drop)
}
