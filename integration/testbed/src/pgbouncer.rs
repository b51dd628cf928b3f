//! A PgBouncer in front of PostgreSQL.

use std::{fmt, fs, path::Path, str::FromStr, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    backstage::Backstage,
    error::{Error, Result},
    image::Image,
    locate,
    pod::{Pod, SHOWN, Spec},
    ports::Port,
    postgres::{self, Postgres, password},
    process::{Plan, Supervisor},
    server::{Server, disturbed},
    site::{Ground, Site},
};

/// The user that PgBouncer asks PostgreSQL about others as, and that may give orders at its console.
const USER: &str = "pgbouncer";

/// Ends it at once in every release: by `TERM` those from 1.23 on wait for their clients.
const STOP: &str = "QUIT";

/// A PgBouncer in front of the service's database.
///
/// It knows no user by itself: it asks PostgreSQL for the password's hash whenever somebody comes, proves with the client's
/// answer to the client's challenge that it may come in, too, and opens a connection as the client's user.
#[derive(Debug)]
pub struct PgBouncer {
    server: Server,
    port: Port,
    mode: PoolMode,
    database: &'static str,
    password: SecretString,
    backstage: Backstage,
}

disturbed!(PgBouncer);

/// When a connection to PostgreSQL may serve another client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolMode {
    /// When its client has gone.
    #[default]
    Session,
    /// After every transaction, so that what belongs to a session, such as a prepared statement, belongs to nobody.
    Transaction,
}

impl PgBouncer {
    pub(crate) async fn launch(site: &Site, postgres: &Postgres, port: Port, mode: PoolMode) -> Result<Self> {
        let server = match &site.ground {
            Ground::Machine => process(site).await?,
            Ground::Pod(pod) => container(site, pod).await?,
        };
        let (password, backstage) = (SecretString::from(password()), site.backstage.clone());
        let pgbouncer = Self { server, port, mode, database: postgres.database(), password, backstage };
        let shown = match &site.ground {
            Ground::Machine => pgbouncer.folder(),
            Ground::Pod(_) => Path::new(SHOWN),
        };
        let write = |name: &str, content: String| {
            let path = pgbouncer.folder().join(name);
            fs::write(&path, content).map_err(Error::file(path))
        };
        let password = pgbouncer.password.expose_secret();
        write("userlist.txt", format!("\"{USER}\" \"{password}\"\n"))?;
        write("pgbouncer.ini", pgbouncer.settings(postgres, site.ground.listen(), shown))?;
        postgres.execute(&account(password)).await?;
        pgbouncer.start_again().await?;
        Ok(pgbouncer)
    }

    /// The host it listens on.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on, the same after every start.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// When a connection may serve another client.
    pub fn mode(&self) -> PoolMode {
        self.mode
    }

    /// The database's address through it, without credentials.
    pub fn url(&self) -> String {
        format!("postgres://{}:{}/{}", self.host(), self.port(), self.database)
    }

    /// Starts it again after [`PgBouncer::kill`] or [`PgBouncer::stop`], and waits until it answers.
    pub async fn start_again(&self) -> Result<()> {
        let console = self.console();
        let answers = move || {
            let console = console.clone();
            async move { postgres::query(&console, "SHOW VERSION").await.is_ok() }
        };
        self.server.start(answers).await
    }

    /// Gives an order at its console, such as `SHOW POOLS` or `RECONNECT app`, and returns the rows as text.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] with SQLSTATE `08P01` for an order that it does not know.
    pub async fn order(&self, order: &str) -> Result<Vec<Vec<Option<String>>>> {
        let (console, order) = (self.console(), order.to_owned());
        self.backstage.run(async move { postgres::query(&console, &order).await }).await
    }

    /// What it says of its own release.
    pub async fn version(&self) -> Result<String> {
        let mut rows = self.order("SHOW VERSION").await?;
        let version = rows.pop().and_then(|mut row| row.pop()).flatten();
        Ok(version.unwrap_or_default())
    }

    /// How many connections to PostgreSQL it has open for a user, in use or not.
    pub async fn connections_of(&self, user: &str) -> Result<usize> {
        // The second column is the user in every release.
        let servers = self.order("SHOW SERVERS").await?;
        Ok(servers
            .iter()
            .filter(|row| row.get(1).is_some_and(|other| other.as_deref() == Some(user)))
            .count())
    }

    fn console(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host(self.host()).port(self.port()).dbname("pgbouncer");
        config.user(USER).password(self.password.expose_secret());
        config
    }

    fn settings(&self, postgres: &Postgres, listen: &str, folder: &Path) -> String {
        let (port, mode, database) = (self.port(), self.mode, self.database);
        let (host, server) = (postgres.host(), postgres.port());
        let users = folder.join("userlist.txt");
        format!(
            "[databases]
{database} = host={host} port={server}
[pgbouncer]
listen_addr = {listen}
listen_port = {port}
unix_socket_dir =
pool_mode = {mode}
auth_type = scram-sha-256
auth_file = {}
auth_user = {USER}
auth_query = SELECT name, hash FROM public.pgbouncer_user($1)
admin_users = {USER}
default_pool_size = 20
max_client_conn = 200
# A server that refuses or is away is asked again after so many seconds.
server_login_retry = 1
ignore_startup_parameters = extra_float_digits,options
",
            users.display()
        )
    }
}

/// Makes the user that asks about others, and lets it see nothing but that.
fn account(password: &str) -> String {
    format!(
        "CREATE ROLE {USER} LOGIN PASSWORD '{password}';
         CREATE FUNCTION public.pgbouncer_user(sought text, OUT name text, OUT hash text) RETURNS SETOF record
             LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
             AS 'SELECT usename::text, passwd FROM pg_shadow WHERE usename = sought';
         REVOKE ALL ON FUNCTION public.pgbouncer_user FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION public.pgbouncer_user TO {USER}"
    )
}

/// A process that does as it is told by its `pgbouncer.ini`.
async fn process(site: &Site) -> Result<Server> {
    let (report, threads) = (site.report, site.backstage.clone());
    let supervisor = site.backstage.block(move || {
        let plan = Plan {
            name: Image::PgBouncer.name(),
            command: vec![locate::pgbouncer(report)?.into(), "pgbouncer.ini".into()],
            // It refuses to run as root.
            user: locate::unprivileged()?,
            stop: STOP,
            end: "KILL",
        };
        Supervisor::new(&plan, &threads)
    });
    Ok(Server::new(Image::PgBouncer.name(), Arc::new(supervisor.await?), &site.backstage))
}

/// A container of an image whose entrypoint runs other commands than its own, and gives root up.
async fn container(site: &Site, pod: &Pod) -> Result<Server> {
    let container = pod.container(Spec {
        name: Image::PgBouncer.name(),
        image: pod.image(Image::PgBouncer).await?,
        command: vec!["pgbouncer".into(), format!("{SHOWN}/pgbouncer.ini")],
        // The public image's entrypoint writes a configuration of its own, which nobody reads, and demands this for it.
        environment: vec![("DB_HOST", "127.0.0.1".into())],
        stop: STOP,
    })?;
    Ok(Server::new(Image::PgBouncer.name(), Arc::new(container), &site.backstage))
}

impl FromStr for PoolMode {
    /// What would have been right.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "session" => Ok(Self::Session),
            "transaction" => Ok(Self::Transaction),
            _ => Err("`session` or `transaction`".into()),
        }
    }
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        })
    }
}
