//! A Redis server, or a Valkey server, which speaks and is configured alike.

mod session;
mod wire;

use std::{fs, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::{
    backstage::Backstage,
    error::{Error, Result},
    image::Image,
    locate,
    openbao::{REDIS_ROLE, VALKEY_ROLE},
    pod::{Pod, SHOWN, Spec},
    ports::Port,
    postgres::password,
    process::{Plan, Supervisor},
    server::{Server, disturbed},
    site::{Ground, Site, only_a_container},
};
pub use session::RedisSession;
use wire::Connection;

/// The user that OpenBao connects as.
pub(crate) const ADMIN: &str = "vault_admin";

/// A Redis server, or a Valkey server, with a hash `measurements` of 100 values by id.
///
/// What it holds is there after every start. The users are not: OpenBao does not save the access control list, so
/// a restart takes the users that it made, and leaves their leases.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    image: Image,
    port: Port,
    password: SecretString,
    admin_password: SecretString,
    backstage: Backstage,
}

disturbed!(Redis);

impl Redis {
    pub(crate) async fn launch(site: &Site, port: Port) -> Result<Self> {
        let server = match &site.ground {
            Ground::Machine => process(site).await?,
            Ground::Pod(pod) => container(site, pod, Image::Redis, "redis-server").await?,
        };
        Self::start(site, server, Image::Redis, port).await
    }

    /// A container: no program of it is looked for.
    pub(crate) async fn launch_valkey(site: &Site, port: Port) -> Result<Self> {
        let Ground::Pod(pod) = &site.ground else { return Err(only_a_container(Image::Valkey)) };
        let server = container(site, pod, Image::Valkey, "valkey-server").await?;
        Self::start(site, server, Image::Valkey, port).await
    }

    async fn start(site: &Site, server: Server, image: Image, port: Port) -> Result<Self> {
        let redis = Self {
            server,
            image,
            port,
            password: password().into(),
            admin_password: password().into(),
            backstage: site.backstage.clone(),
        };
        let settings = redis.server.folder().join("redis.conf");
        fs::write(&settings, redis.settings(site.ground.listen())).map_err(Error::file(&settings))?;
        redis.start_again().await?;
        redis.fill().await?;
        Ok(redis)
    }

    /// The host it listens on.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on, the same after every start.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The number of the service's database.
    pub fn database(&self) -> u32 {
        0
    }

    /// The database's address, without credentials.
    pub fn url(&self) -> String {
        format!("redis://{}:{}/{}", self.host(), self.port(), self.database())
    }

    /// The role of the engine `database` to ask for credentials.
    pub fn role(&self) -> &'static str {
        if self.image == Image::Valkey { VALKEY_ROLE } else { REDIS_ROLE }
    }

    /// Its version, as it says itself.
    pub async fn version(&self) -> Result<String> {
        let said = self.command(&["INFO", "server"]).await?;
        // Valkey says the version of Redis that it is compatible with, too.
        let field = if self.image == Image::Valkey { "valkey_version:" } else { "redis_version:" };
        let mut lines = said.as_str().unwrap_or_default().lines();
        let version = lines.find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        Ok(version.trim().to_owned())
    }

    /// Starts it again after [`Redis::kill`] or [`Redis::stop`], and waits until it answers.
    pub async fn start_again(&self) -> Result<()> {
        let (port, password) = (self.port(), self.password.clone());
        let answers = move || {
            let password = password.clone();
            async move {
                match Connection::open(port, SUPERUSER, password.expose_secret()).await {
                    // While it reads its data it answers, but with LOADING.
                    Ok(mut connection) => connection.command(&["PING"]).await.is_ok(),
                    Err(_) => false,
                }
            }
        };
        self.server.start(answers).await
    }

    /// Gives a command as the superuser: text is a string, nothing is `Null`.
    pub async fn command(&self, words: &[&str]) -> Result<Value> {
        self.administrate().await?.command(words).await
    }

    /// Opens a session of the superuser.
    pub(crate) async fn administrate(&self) -> Result<RedisSession> {
        self.log_in(SUPERUSER, self.password.expose_secret()).await
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] with status `WRONGPASS` when the server does not accept the credentials.
    pub async fn log_in(&self, user: &str, password: &str) -> Result<RedisSession> {
        RedisSession::open(&self.backstage, self.port(), user, password).await
    }

    /// The users that OpenBao has made and not yet deleted.
    pub async fn dynamic_users(&self) -> Result<Vec<String>> {
        let mut users: Vec<String> =
            serde_json::from_value(self.command(&["ACL", "USERS"]).await?).unwrap_or_default();
        users.retain(|user| user.starts_with("V_"));
        Ok(users)
    }

    /// How many sessions a user has open; Redis closes them when the user is deleted.
    pub async fn sessions_of(&self, user: &str) -> Result<usize> {
        let clients = self.command(&["CLIENT", "LIST"]).await?;
        let clients = clients.as_str().unwrap_or_default().lines();
        let users =
            clients.filter_map(|client| client.split(' ').find_map(|field| field.strip_prefix("user=")));
        Ok(users.filter(|&other| other == user).count())
    }

    pub(crate) fn admin_password(&self) -> &str {
        self.admin_password.expose_secret()
    }

    /// Makes every write a line in a file, so that a kill takes nothing.
    fn settings(&self, listen: &str) -> String {
        let (port, admin_password) = (self.port(), self.admin_password());
        let password = self.password.expose_secret();
        format!(
            "bind {listen}
port {port}
save \"\"
appendonly yes
appendfsync no
auto-aof-rewrite-percentage 0
maxclients 60
user {SUPERUSER} on >{password} ~* &* +@all
user {ADMIN} on >{admin_password} +@connection +acl|setuser +acl|getuser +acl|deluser
"
        )
    }

    /// What a service finds.
    async fn fill(&self) -> Result<()> {
        let mut words = vec!["HSET".to_owned(), "measurements".to_owned()];
        for id in 1..=100 {
            words.extend([id.to_string(), (f64::from(id) / 10.0).to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.command(&words).await.map(drop)
    }
}

/// A container that does as it is told by its `redis.conf`.
async fn container(site: &Site, pod: &Pod, image: Image, program: &str) -> Result<Server> {
    let container = pod.container(Spec {
        name: image.name(),
        image: pod.image(image).await?,
        command: vec![program.into(), format!("{SHOWN}/redis.conf")],
        environment: Vec::new(),
        stop: "TERM",
    })?;
    Ok(Server::new(image.name(), Arc::new(container), &site.backstage))
}

/// A process that does as it is told by its `redis.conf`.
async fn process(site: &Site) -> Result<Server> {
    let (report, threads) = (site.report, site.backstage.clone());
    let supervisor = site.backstage.block(move || {
        let plan = Plan {
            name: Image::Redis.name(),
            command: vec![locate::redis(report)?.into(), "redis.conf".into()],
            user: locate::unprivileged()?,
            stop: "TERM",
            // Its data goes as well, so there is nothing to be orderly about.
            end: "KILL",
        };
        Supervisor::new(&plan, &threads)
    });
    Ok(Server::new(Image::Redis.name(), Arc::new(supervisor.await?), &site.backstage))
}

/// The user that Redis begins with; others come in only by name.
const SUPERUSER: &str = "default";
