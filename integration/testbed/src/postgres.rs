//! A PostgreSQL server.

mod template;

use std::{fs::OpenOptions, io::Write, time::Duration};

use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::{
    backstage::Backstage,
    config::Report,
    error::{Error, Result, chain},
    locate,
    ports::Port,
    supervise::{Plan, Supervisor, supervised},
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
    server: Supervisor,
    port: Port,
    admin_password: String,
    backstage: Backstage,
}

supervised!(Postgres);

impl Postgres {
    pub(crate) async fn launch(backstage: &Backstage, report: Report) -> Result<Self> {
        let programs = backstage.block(move || locate::postgres(report)).await?;
        let template = template::prepare(backstage, &programs, report).await?;
        let copied = template.server(backstage, plan(&programs)?).await?;
        let postgres = Self::start(copied, backstage).await?;
        postgres.execute(&format!("ALTER ROLE {ADMIN} PASSWORD '{}'", postgres.admin_password)).await?;
        Ok(postgres)
    }

    /// Starts a server whose folder holds its data already.
    async fn start(server: Supervisor, backstage: &Backstage) -> Result<Self> {
        let port = Port::reserve()?;
        let settings = server.folder().join("data/postgresql.conf");
        let line =
            format!("port = {}\nunix_socket_directories = '{}'\n", port.number(), server.folder().display());
        let mut file = OpenOptions::new().append(true).open(&settings).map_err(Error::file(&settings))?;
        file.write_all(line.as_bytes()).map_err(Error::file(&settings))?;
        let postgres = Self { server, port, admin_password: password(), backstage: backstage.clone() };
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
        &self.admin_password
    }

    async fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.query(sql).await?.into_iter().flatten().flatten().collect())
    }

    async fn query_in(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let (config, sql) = (self.superuser(database), sql.to_owned());
        self.backstage.run(async move { query(&config, &sql).await }).await
    }

    fn superuser(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.server.folder()).port(self.port()).user("postgres").dbname(database);
        config
    }
}

/// A server that does as it is told by its `postgresql.conf`.
fn plan(programs: &locate::Postgres) -> Result<Plan> {
    Ok(Plan {
        name: "PostgreSQL",
        command: vec![programs.bin.join("postgres").into(), "-D".into(), "data".into()],
        user: locate::unprivileged()?,
        stop: "INT",
        end: "QUIT",
    })
}

/// A password for an administrator.
pub(crate) fn password() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(24).collect()
}

async fn query(config: &tokio_postgres::Config, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
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
