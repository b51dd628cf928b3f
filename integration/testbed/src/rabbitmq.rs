//! A RabbitMQ server.

mod container;
mod management;
mod process;
mod session;
mod wire;

use std::{fs, path::Path};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::{
    backstage::Backstage,
    error::{Error, Result},
    openbao::{RABBITMQ_MOUNT, RABBITMQ_ROLE},
    ports::{Port, RabbitMqPorts},
    postgres::password,
    server::{Server, disturbed},
    site::{Ground, Site},
};
use management::Management;
pub use session::RabbitMqSession;
use wire::Connection;

/// The virtual host that the service uses.
pub(crate) const VIRTUAL_HOST: &str = "/";

/// The user that OpenBao connects as, an administrator: nobody else may make users.
pub(crate) const ADMIN: &str = "vault_admin";

/// A RabbitMQ server with a durable queue `measurements`, which is empty.
///
/// Nothing but the management interface is added to it. What it holds is there after every start, its users included.
#[derive(Debug)]
pub struct RabbitMq {
    server: Server,
    port: Port,
    management_port: Port,
    management: Management,
    admin_password: SecretString,
    backstage: Backstage,
}

disturbed!(RabbitMq);

/// The file with its settings, in its folder.
const SETTINGS: &str = "rabbitmq.conf";

/// The file with the plugins to start, in its folder.
const PLUGINS: &str = "enabled_plugins";

/// The node's name, which its data is kept under: a container has another machine's name than the last one.
const NODE: &str = "rabbit@localhost";

impl RabbitMq {
    pub(crate) async fn launch(site: &Site, ports: RabbitMqPorts) -> Result<Self> {
        let server = match &site.ground {
            Ground::Machine => process::server(site).await?,
            Ground::Pod(pod) => container::server(site, pod).await?,
        };
        let RabbitMqPorts { amqp: port, management: management_port } = ports;
        let admin_password = SecretString::from(password());
        let management = Management::new(management_port.number(), ADMIN, admin_password.clone())?;
        let backstage = site.backstage.clone();
        let rabbitmq = Self { server, port, management_port, management, admin_password, backstage };
        rabbitmq.configure(site.ground.listen())?;
        rabbitmq.start_again().await?;
        rabbitmq.fill().await?;
        Ok(rabbitmq)
    }

    /// The host it listens on.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port of AMQP 0-9-1, the same after every start.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The port of the management interface, the same after every start.
    pub fn management_port(&self) -> u16 {
        self.management_port.number()
    }

    /// The name of the service's virtual host.
    pub fn virtual_host(&self) -> &'static str {
        VIRTUAL_HOST
    }

    /// The virtual host's address, without credentials.
    pub fn url(&self) -> String {
        format!("amqp://{}:{}/%2f", self.host(), self.port())
    }

    /// The management interface's address, without credentials.
    pub fn management_url(&self) -> String {
        format!("http://{}:{}", self.host(), self.management_port())
    }

    /// The role of the engine `rabbitmq` to ask for credentials.
    pub fn role(&self) -> &'static str {
        RABBITMQ_ROLE
    }

    /// The path at which OpenBao issues credentials.
    pub fn path(&self) -> String {
        format!("{RABBITMQ_MOUNT}/creds/{RABBITMQ_ROLE}")
    }

    /// Its version, as it says itself.
    pub async fn version(&self) -> Result<String> {
        let overview = self.request("GET", "overview", None).await?;
        Ok(overview["rabbitmq_version"].as_str().unwrap_or_default().to_owned())
    }

    /// Starts it again after [`RabbitMq::kill`] or [`RabbitMq::stop`], and waits until it answers.
    pub async fn start_again(&self) -> Result<()> {
        let (port, password, management) =
            (self.port(), self.admin_password.clone(), self.management.clone());
        let answers = move || {
            let (password, management) = (password.clone(), management.clone());
            async move {
                let open = Connection::open(port, ADMIN, password.expose_secret(), VIRTUAL_HOST);
                open.await.is_ok() && management.request("GET", "whoami", None).await.is_ok()
            }
        };
        self.server.start(answers).await
    }

    /// Asks the management interface for something as administrator: a path without `/api/`, such as `queues`; an empty
    /// answer is `Null`.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] with the HTTP status.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (management, method, path) = (self.management.clone(), method.to_owned(), path.to_owned());
        self.backstage.run(async move { management.request(&method, &path, body).await }).await
    }

    /// Opens a connection to the service's virtual host.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] with status `403` when the server does not accept the credentials.
    pub async fn log_in(&self, user: &str, password: &str) -> Result<RabbitMqSession> {
        RabbitMqSession::open(&self.backstage, self.port(), user, password).await
    }

    /// The users that OpenBao has made and not yet deleted.
    pub async fn dynamic_users(&self) -> Result<Vec<String>> {
        let mut users = self.column("users", "name").await?;
        users.retain(|user| user != ADMIN);
        Ok(users)
    }

    /// How many connections a user has open; RabbitMQ closes them when the user is deleted.
    pub async fn sessions_of(&self, user: &str) -> Result<usize> {
        let users = self.column("connections", "user").await?;
        Ok(users.iter().filter(|&other| other == user).count())
    }

    pub(crate) fn admin_password(&self) -> &str {
        self.admin_password.expose_secret()
    }

    /// One field of everything that a path of the management interface lists.
    async fn column(&self, path: &str, field: &str) -> Result<Vec<String>> {
        let rows = self.request("GET", path, None).await?;
        let rows = rows.as_array().into_iter().flatten();
        Ok(rows.filter_map(|row| row[field].as_str().map(str::to_owned)).collect())
    }

    fn configure(&self, listen: &str) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = self.server.folder().join(name);
            fs::write(&path, text).map_err(Error::file(path))
        };
        write(SETTINGS, self.settings(listen))?;
        write(PLUGINS, "[rabbitmq_management].\n".into())
    }

    fn settings(&self, listen: &str) -> String {
        let (port, management_port) = (self.port(), self.management_port());
        let password = self.admin_password();
        format!(
            "listeners.tcp.1 = {listen}:{port}
management.tcp.ip = {listen}
management.tcp.port = {management_port}
default_user = {ADMIN}
default_pass = {password}
default_user_tags.administrator = true
log.console = true
log.console.level = warning
log.file = false
"
        )
    }

    /// What a service finds.
    async fn fill(&self) -> Result<()> {
        let queue = json!({ "durable": true });
        self.request("PUT", "queues/%2f/measurements", Some(queue)).await.map(drop)
    }
}

/// Where it looks for what in a folder, and as which node.
fn environment(folder: &Path) -> Vec<(&'static str, String)> {
    let in_folder = |name: &str| folder.join(name).to_string_lossy().into_owned();
    vec![
        ("RABBITMQ_CONFIG_FILE", in_folder(SETTINGS)),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", in_folder(PLUGINS)),
        ("RABBITMQ_NODENAME", NODE.into()),
    ]
}
