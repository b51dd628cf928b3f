//! Everything together.

use std::{
    path::{self, Path},
    process::Command,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::interval;

use crate::{
    bao_proxy::BaoProxy,
    command,
    config::Config,
    error::{Error, Result},
    image::Image,
    jwt::{Claims, Signer},
    kubernetes::ApiServer,
    launcher::{Launcher, Product},
    mariadb::MariaDb,
    mysql::MySql,
    openbao::{Broker, DB_ROLE, Database, KUBERNETES_MOUNT, OpenBao, ROLE},
    pgbouncer::PgBouncer,
    pki::Authority,
    pod::Pod,
    ports::Ports,
    postgres::Postgres,
    rabbitmq::RabbitMq,
    recorder::Recorder,
    redis::Redis,
    service_account::ServiceAccount,
    site::Site,
    standby::Standby,
};

/// OpenBao, PostgreSQL, the other servers asked for and a service account, set up for each other.
///
/// Dropping it ends the servers and removes their folders or containers, and waits until that is done. The same happens, without
/// anybody waiting, when the process ends in any other way.
#[derive(Debug)]
pub struct Testbed {
    service_account: Arc<ServiceAccount>,
    bao_proxy: Option<BaoProxy>,
    pgbouncer: Option<PgBouncer>,
    standby: Option<Standby>,
    openbao: OpenBao,
    postgres: Postgres,
    mariadb: Option<MariaDb>,
    mysql: Option<MySql>,
    redis: Option<Redis>,
    valkey: Option<Redis>,
    rabbitmq: Option<RabbitMq>,
    database_url: String,
    api_server: ApiServer,
    config: Config,
    // Last: what the containers share goes after them.
    site: Site,
}

impl Testbed {
    /// Starts and configures everything; installs or pulls what is missing where it can.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`](crate::Error::Missing) and [`Error::Install`](crate::Error::Install) say what to install, to pull or to build;
    /// [`Error::Engine`](crate::Error::Engine) when containers are asked for and the engine does not do its part;
    /// [`Error::Variable`](crate::Error::Variable) when a variable means nothing; [`Error::Server`](crate::Error::Server), with the end of its
    /// log, when a server does not start. Nothing that was started stays.
    pub async fn start(config: Config) -> Result<Self> {
        // Boxed: a caller's own futures would otherwise hold all of ours, deeper than the compiler likes.
        Box::pin(Self::set_up(config)).await
    }

    async fn set_up(mut config: Config) -> Result<Self> {
        config.versions = config.versions.or_from_env()?;
        let product = config.product.map_or_else(Product::from_env, Ok)?;
        let launcher = config.launcher.map_or_else(Launcher::from_env, Ok)?;
        let launcher = launcher.decide(&config.images(product), config.report).await?;
        let ports = Ports::reserve(&config)?;
        let site = Site::of(&config, product, launcher, &ports).await?;
        Self::start_on(site, config, product, ports).await
    }

    async fn start_on(site: Site, config: Config, product: Product, ports: Ports) -> Result<Self> {
        let authority = Authority::new()?;
        let signer = Arc::new(Signer::new()?);
        let api_server = ApiServer::start(&site, &authority, &signer)?;
        let beside = |image| site.beside(image);
        let [of_postgres, of_mariadb, of_mysql] = [Image::Postgres, Image::MariaDb, Image::MySql].map(beside);
        let [of_redis, of_valkey, of_rabbitmq] = [Image::Redis, Image::Valkey, Image::RabbitMq].map(beside);
        let of_pgbouncer = beside(Image::PgBouncer);
        let (openbao, postgres, mariadb, mysql, redis, valkey, rabbitmq) = tokio::try_join!(
            OpenBao::launch(&site, &config, product, &authority, &ports),
            Postgres::launch(&of_postgres, ports.postgres.clone()),
            asked(ports.mariadb.clone().map(|port| MariaDb::launch(&of_mariadb, port))),
            asked(ports.mysql.clone().map(|port| MySql::launch(&of_mysql, port, &authority))),
            asked(ports.redis.clone().map(|port| Redis::launch(&of_redis, port))),
            asked(ports.valkey.clone().map(|port| Redis::launch_valkey(&of_valkey, port))),
            asked(ports.rabbitmq.clone().map(|ports| RabbitMq::launch(&of_rabbitmq, ports))),
        )?;
        let mut databases = vec![Database::postgres(&postgres)];
        databases.extend(mariadb.as_ref().map(Database::mariadb));
        databases.extend(mysql.as_ref().map(Database::mysql));
        databases.extend(redis.iter().chain(&valkey).map(Database::redis));
        let broker = rabbitmq.as_ref().map(Broker::new);
        openbao.configure(&config, databases, broker, &api_server).await?;
        let service_account = ServiceAccount::new(openbao.folder().join("serviceaccount"), signer)?;
        let service_account = Arc::new(service_account);
        site.backstage.spawn(rotate_like_the_kubelet(Arc::downgrade(&service_account)));
        // In front of servers that are set up already.
        let (bao_proxy, pgbouncer, standby) = tokio::try_join!(
            asked(config.bao_proxy.zip(ports.bao_proxy.clone()).map(|(settings, port)| {
                BaoProxy::launch(&site, &openbao, &service_account, port, settings)
            })),
            asked(
                config
                    .pgbouncer
                    .zip(ports.pgbouncer.clone())
                    .map(|(mode, port)| { PgBouncer::launch(&of_pgbouncer, &postgres, port, mode) })
            ),
            asked(
                config
                    .standby
                    .zip(ports.standby.clone())
                    .map(|(delay, port)| { Standby::launch(&of_postgres, &postgres, port, delay) })
            ),
        )?;
        let database_url = postgres.url();
        Ok(Self {
            service_account,
            bao_proxy,
            pgbouncer,
            standby,
            openbao,
            postgres,
            mariadb,
            mysql,
            redis,
            valkey,
            rabbitmq,
            database_url,
            api_server,
            config,
            site,
        })
    }

    /// The OpenBao server.
    pub fn openbao(&self) -> &OpenBao {
        &self.openbao
    }

    /// The PostgreSQL server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The MariaDB server, if the configuration asked for it.
    pub fn mariadb(&self) -> Option<&MariaDb> {
        self.mariadb.as_ref()
    }

    /// The MySQL server, if the configuration asked for it.
    pub fn mysql(&self) -> Option<&MySql> {
        self.mysql.as_ref()
    }

    /// The Redis server, if the configuration asked for it.
    pub fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()
    }

    /// The Valkey server, if the configuration asked for it.
    pub fn valkey(&self) -> Option<&Redis> {
        self.valkey.as_ref()
    }

    /// The RabbitMQ server, if the configuration asked for it.
    pub fn rabbitmq(&self) -> Option<&RabbitMq> {
        self.rabbitmq.as_ref()
    }

    /// The PgBouncer in front of PostgreSQL, if the configuration asked for it.
    pub fn pgbouncer(&self) -> Option<&PgBouncer> {
        self.pgbouncer.as_ref()
    }

    /// PostgreSQL's standby, if the configuration asked for it.
    pub fn standby(&self) -> Option<&Standby> {
        self.standby.as_ref()
    }

    /// The proxy in front of OpenBao that is its own program, if the configuration asked for it.
    pub fn bao_proxy(&self) -> Option<&BaoProxy> {
        self.bao_proxy.as_ref()
    }

    /// The imitation of a cluster's API server, which OpenBao asks at a Kubernetes login.
    pub fn api_server(&self) -> &ApiServer {
        &self.api_server
    }

    /// Lets OpenBao ask the API server with another token, of which this is what it says, such as
    /// [`Claims::reviewer`] that expires.
    pub async fn review_as(&self, claims: &Claims) -> Result<()> {
        let token = self.service_account.token(claims)?;
        let settings = self.api_server.settings(Some(&token));
        let path = format!("auth/{KUBERNETES_MOUNT}/config");
        self.openbao.request("POST", &path, Some(settings)).await.map(drop)
    }

    /// The service account that may log in.
    pub fn service_account(&self) -> &ServiceAccount {
        &self.service_account
    }

    /// Where Kubernetes logins are mounted, below `auth/`.
    pub fn kubernetes_mount(&self) -> &'static str {
        KUBERNETES_MOUNT
    }

    /// The role to log in for.
    pub fn role(&self) -> &'static str {
        ROLE
    }

    /// The role of the engine `database` to ask for PostgreSQL's credentials.
    pub fn db_role(&self) -> &'static str {
        DB_ROLE
    }

    /// PostgreSQL's address, without credentials.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The label that all its containers have, `name=value`; none if all its servers are processes.
    pub fn container_label(&self) -> Option<String> {
        self.site.pod.as_ref().map(Pod::label)
    }

    /// Where its servers are set up.
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// What a server of secrets is told beside its databases: what was asked for, and who reviews tokens.
    pub(crate) fn told(&self) -> (&Config, &ApiServer) {
        (&self.config, &self.api_server)
    }

    /// Starts a proxy in front of OpenBao that counts requests and can answer in its stead.
    pub fn recorder(&self) -> Result<Recorder> {
        Recorder::start(self.openbao.address())
    }

    /// Runs a shell script in which `vault` is the server's command-line client as root, and returns what it wrote: to try
    /// the script that sets up your own server. It reads the variables of [`environment`](Self::environment), and those
    /// given here.
    ///
    /// # Errors
    ///
    /// [`Error::Command`](crate::Error::Command) with what it said, if it fails.
    pub async fn run_script(&self, script: impl AsRef<Path>, variables: &[(&str, &str)]) -> Result<String> {
        let client = self.openbao.client().await?;
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("vault() {{ {client} \"$@\"; }}; . \"$0\"")]);
        shell.arg(path::absolute(&script).map_err(Error::file(script.as_ref()))?);
        shell.envs(self.environment()).envs(variables.iter().copied());
        self.site.backstage.block(move || command::run(shell)).await
    }

    /// The environment of a service that uses this testbed, and `TESTBED_ROOT_TOKEN` for whoever disturbs it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let token = self.service_account.token_path();
        let mut variables = vec![
            ("VAULT_ADDR", self.openbao.address()),
            ("VAULT_ROLE", self.role().into()),
            ("VAULT_JWT_FILE", token.to_string_lossy().into_owned()),
            ("DATABASE_ROLE", self.db_role().into()),
            ("DATABASE_URL", self.database_url.clone()),
            ("TESTBED_ROOT_TOKEN", self.openbao.root_token().into()),
        ];
        if let Some(mariadb) = &self.mariadb {
            variables.extend([("MARIADB_ROLE", mariadb.role().into()), ("MARIADB_URL", mariadb.url())]);
        }
        if let Some(mysql) = &self.mysql {
            variables.extend([
                ("MYSQL_ROLE", mysql.role().into()),
                ("MYSQL_STATIC_ROLE", mysql.static_role().into()),
                ("MYSQL_URL", mysql.url()),
                ("MYSQL_CA", mysql.certificates().authority.to_string_lossy().into_owned()),
            ]);
        }
        if let Some(valkey) = &self.valkey {
            variables.extend([("VALKEY_ROLE", valkey.role().into()), ("VALKEY_URL", valkey.url())]);
        }
        if let Some(redis) = &self.redis {
            variables.extend([("REDIS_ROLE", redis.role().into()), ("REDIS_URL", redis.url())]);
        }
        if let Some(rabbitmq) = &self.rabbitmq {
            variables.extend([("RABBITMQ_ROLE", rabbitmq.role().into()), ("RABBITMQ_URL", rabbitmq.url())]);
        }
        variables.extend(self.pgbouncer.iter().map(|pgbouncer| ("PGBOUNCER_URL", pgbouncer.url())));
        variables.extend(self.standby.iter().map(|standby| ("STANDBY_URL", standby.url())));
        variables.extend(self.bao_proxy.iter().map(|proxy| ("BAO_PROXY_ADDR", proxy.address())));
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        // All end at the same time; the fields' own drops wait.
        self.bao_proxy.iter().for_each(BaoProxy::release);
        self.pgbouncer.iter().for_each(PgBouncer::release);
        self.standby.iter().for_each(|standby| standby.postgres().release());
        self.openbao.release();
        self.postgres.release();
        self.mariadb.iter().for_each(MariaDb::release);
        self.mysql.iter().for_each(MySql::release);
        self.redis.iter().chain(&self.valkey).for_each(Redis::release);
        self.rabbitmq.iter().for_each(RabbitMq::release);
    }
}

async fn asked<T>(launch: Option<impl Future<Output = Result<T>>>) -> Result<Option<T>> {
    match launch {
        Some(launch) => launch.await.map(Some),
        None => Ok(None),
    }
}

/// The kubelet replaces a token of an hour when four fifths of it are over.
async fn rotate_like_the_kubelet(account: Weak<ServiceAccount>) {
    let mut due = interval(Duration::from_secs(48 * 60));
    due.tick().await;
    loop {
        due.tick().await;
        let Some(account) = account.upgrade() else { return };
        if let Err(error) = account.rotate() {
            tracing::warn!(%error, "the service account's token was not rotated");
        }
    }
}
