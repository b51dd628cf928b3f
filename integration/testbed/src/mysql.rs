//! A MySQL server.

mod container;

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::rustls::ClientConfig;

use crate::{
    backstage::Backstage,
    error::Result,
    image::Image,
    mariadb::{Address, Connection, MariaDbSession},
    openbao::{MYSQL_ROLE, MYSQL_STATIC_ROLE},
    pki::{Authority, Certificates},
    ports::Port,
    postgres::password,
    server::{Server, disturbed},
    site::{Ground, Site, only_a_container},
};

/// The database that the service uses.
const DATABASE: &str = "app";

/// The user that OpenBao connects as.
pub(crate) const ADMIN: &str = "vault_admin";

/// The user whose password OpenBao replaces.
pub(crate) const STATIC_USER: &str = "reporter";

/// A MySQL server with a database `app` and, in it, a table `measurements(id, value)` of 100 rows.
///
/// It is a container. It listens on one port with TLS and without, as the client likes. Its users log in by
/// `caching_sha2_password`: without TLS, the first login of each sends the password encrypted with the server's public key.
#[derive(Debug)]
pub struct MySql {
    server: Server,
    port: Port,
    superuser: SecretString,
    admin_password: SecretString,
    certificates: Certificates,
    trusting: Arc<ClientConfig>,
    backstage: Backstage,
}

disturbed!(MySql);

/// What a server of nobody's data is told: nothing is flushed, and the rest keeps the copy and the start small. Without
/// names, no client is `localhost`.
const SETTINGS: &[(&str, &str)] = &[
    ("skip_name_resolve", "ON"),
    ("max_connections", "60"),
    ("mysqlx", "OFF"),
    ("skip_log_bin", "ON"),
    ("innodb_flush_method", "nosync"),
    ("innodb_flush_log_at_trx_commit", "2"),
    ("innodb_doublewrite", "OFF"),
    ("innodb_redo_log_capacity", "8M"),
    ("innodb_buffer_pool_size", "16M"),
    ("innodb_buffer_pool_dump_at_shutdown", "OFF"),
    ("key_buffer_size", "1M"),
    ("performance_schema", "OFF"),
];

impl MySql {
    pub(crate) async fn launch(site: &Site, port: Port, authority: &Authority) -> Result<Self> {
        let Ground::Pod(pod) = &site.ground else { return Err(only_a_container(Image::MySql)) };
        let (server, superuser) = container::server(site, pod, &port).await?;
        let certificates = authority.write(server.folder())?;
        let mysql = Self {
            server,
            port,
            superuser,
            admin_password: password().into(),
            certificates,
            trusting: authority.trusting()?,
            backstage: site.backstage.clone(),
        };
        mysql.start_again().await?;
        let (admin, password) = (ADMIN, mysql.admin_password());
        mysql.execute(&format!("ALTER USER '{admin}'@'%' IDENTIFIED BY '{password}'")).await?;
        Ok(mysql)
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

    /// The certificates for connections with TLS.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The role of the engine `database` to ask for credentials.
    pub fn role(&self) -> &'static str {
        MYSQL_ROLE
    }

    /// The static role of the engine `database`: its user stays, and its password is replaced once a day, or when somebody
    /// asks for it ([`MySql::static_user`]).
    pub fn static_role(&self) -> &'static str {
        MYSQL_STATIC_ROLE
    }

    /// The user of the static role.
    pub fn static_user(&self) -> &'static str {
        STATIC_USER
    }

    /// Its version, as it says itself.
    pub async fn version(&self) -> Result<String> {
        Ok(self.column("SELECT version()").await?.concat())
    }

    /// Starts it again after [`MySql::kill`] or [`MySql::stop`], and waits until it answers.
    pub async fn start_again(&self) -> Result<()> {
        self.server.start(answers(self.port(), self.superuser.clone())).await
    }

    /// Runs statements in the service's database as the superuser.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.query(sql).await.map(drop)
    }

    /// Runs statements in the service's database as the superuser, and returns the rows as text.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.log_in(ROOT, self.superuser.expose_secret()).await?.query(sql).await
    }

    /// Opens a session in the service's database, without TLS.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`](crate::Error::Answer) with status `1045` when the server does not accept the credentials.
    pub async fn log_in(&self, user: &str, password: &str) -> Result<MariaDbSession> {
        self.log_in_to(DATABASE, user, password).await
    }

    /// As [`MySql::log_in`], in another database.
    pub async fn log_in_to(&self, database: &str, user: &str, password: &str) -> Result<MariaDbSession> {
        self.open(Address::Tcp(self.port()), user, password, database).await
    }

    /// Opens a session in the service's database with TLS, with the server's certificate checked.
    ///
    /// # Errors
    ///
    /// As [`MySql::log_in`].
    pub async fn log_in_with_tls(&self, user: &str, password: &str) -> Result<MariaDbSession> {
        self.open(Address::Tls(self.port(), self.trusting.clone()), user, password, DATABASE).await
    }

    /// The users that OpenBao has made and not yet dropped.
    pub async fn dynamic_users(&self) -> Result<Vec<String>> {
        self.column("SELECT user FROM mysql.user WHERE user LIKE 'v-%' ORDER BY user").await
    }

    /// How many sessions a user has open, which MySQL knows also when the user was dropped.
    pub async fn sessions_of(&self, user: &str) -> Result<usize> {
        Ok(self.sessions().await?.iter().filter(|&other| other == user).count())
    }

    /// How many sessions are open whose user was dropped.
    pub async fn orphaned_sessions(&self) -> Result<usize> {
        let there = self.dynamic_users().await?;
        let sessions = self.sessions().await?;
        Ok(sessions.iter().filter(|user| user.starts_with("v-") && !there.contains(user)).count())
    }

    pub(crate) fn admin_password(&self) -> &str {
        self.admin_password.expose_secret()
    }

    /// The user of each session.
    async fn sessions(&self) -> Result<Vec<String>> {
        let rows = self.query("SHOW PROCESSLIST").await?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().nth(1).flatten()).collect())
    }

    async fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.query(sql).await?.into_iter().flatten().flatten().collect())
    }

    async fn open(
        &self,
        address: Address,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<MariaDbSession> {
        let name = Image::MySql.name();
        MariaDbSession::open(&self.backstage, name, address, user, password, database).await
    }
}

const ROOT: &str = "root";

/// Asks whether the server lets its superuser in, who has no database to name before it is made.
fn answers(
    port: u16,
    password: SecretString,
) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync + 'static {
    move || {
        let password = password.clone();
        Box::pin(async move {
            let address = Address::Tcp(port);
            let name = Image::MySql.name();
            Connection::open(name, &address, ROOT, password.expose_secret(), "mysql").await.is_ok()
        })
    }
}
