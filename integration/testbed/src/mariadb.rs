//! A MariaDB server.

mod session;
mod template;
mod wire;

use std::{fs, path::PathBuf};

use tokio::{io::AsyncReadExt, net::UnixStream};

use crate::{
    backstage::Backstage,
    config::Report,
    error::{Error, Result},
    locate,
    openbao::MARIADB_ROLE,
    ports::Port,
    postgres::password,
    supervise::{Plan, Supervisor, supervised},
};
pub use session::MariaDbSession;
use wire::Address;

/// The database that the service uses.
const DATABASE: &str = "app";

/// The user that OpenBao connects as.
pub(crate) const ADMIN: &str = "vault_admin";

/// A MariaDB server with a database `app` and, in it, a table `measurements(id, value)` of 100 rows.
#[derive(Debug)]
pub struct MariaDb {
    server: Supervisor,
    port: Port,
    admin_password: String,
    backstage: Backstage,
}

supervised!(MariaDb);

impl MariaDb {
    pub(crate) async fn launch(backstage: &Backstage, report: Report) -> Result<Self> {
        let programs = backstage.block(move || locate::mariadb(report)).await?;
        let template = template::prepare(backstage, &programs, report).await?;
        let copied = template.server(backstage, plan(&programs)?).await?;
        let mariadb = Self::start(copied, backstage).await?;
        let (admin, password) = (ADMIN, &mariadb.admin_password);
        mariadb.execute(&format!("ALTER USER '{admin}'@'%' IDENTIFIED BY '{password}'")).await?;
        Ok(mariadb)
    }

    /// Starts a server whose folder holds its data already.
    async fn start(server: Supervisor, backstage: &Backstage) -> Result<Self> {
        let port = Port::reserve()?;
        let settings = server.folder().join("my.cnf");
        fs::write(&settings, template::settings(server.folder(), port.number()))
            .map_err(Error::file(&settings))?;
        let mariadb = Self { server, port, admin_password: password(), backstage: backstage.clone() };
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

    /// Starts it again after [`MariaDb::kill`] or [`MariaDb::stop`], and waits until it answers.
    pub async fn start_again(&self) -> Result<()> {
        let socket = self.socket();
        let answers = move || {
            let socket = socket.clone();
            async move { greets(&socket).await }
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
    /// [`Error::Answer`] with status `1045` when the server does not accept the credentials.
    pub async fn log_in(&self, user: &str, password: &str) -> Result<MariaDbSession> {
        let address = Address::Tcp(self.port());
        MariaDbSession::open(&self.backstage, address, user, password, DATABASE).await
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
        &self.admin_password
    }

    async fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.query(sql).await?.into_iter().flatten().flatten().collect())
    }

    async fn query_in(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let address = Address::Unix(self.socket());
        MariaDbSession::open(&self.backstage, address, "root", "", database).await?.query(sql).await
    }

    fn socket(&self) -> PathBuf {
        template::socket(self.server.folder())
    }
}

/// A server that does as it is told by its `my.cnf`.
fn plan(programs: &locate::MariaDb) -> Result<Plan> {
    Ok(Plan {
        name: "MariaDB",
        command: vec![programs.server.clone().into(), "--defaults-file=my.cnf".into()],
        user: locate::unprivileged()?,
        stop: "TERM",
        // Its data goes as well, so there is nothing to be orderly about.
        end: "KILL",
    })
}

/// The server speaks first, when it is ready.
async fn greets(socket: &PathBuf) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return false };
    stream.read_u8().await.is_ok()
}
