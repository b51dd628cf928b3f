//! An OpenBao server.

mod api;
mod broker;
mod configure;
mod databases;

use std::{fs, path::Path, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::{
    backstage::{Backstage, poll},
    config::{Config, Tls},
    error::{Error, Result},
    image::Image,
    launcher::Product,
    locate,
    pki::{Authority, Certificates},
    pod::{Container, Pod, SHOWN, Spec},
    ports::{Port, Ports},
    process::{Plan, Supervisor},
    server::{Server, disturbed},
    site::{Ground, Site},
    version::Version,
};
pub(crate) use api::Api;
use api::PATIENCE;
pub(crate) use broker::{Broker, RABBITMQ_MOUNT, RABBITMQ_ROLE};
pub(crate) use configure::{KUBERNETES_MOUNT, ROLE, configure};
pub(crate) use databases::{
    DB_ROLE, Database, MARIADB_ROLE, MYSQL_ROLE, MYSQL_STATIC_ROLE, REDIS_ROLE, VALKEY_ROLE,
};

/// A server that needs to be unsealed after every start, with its storage on disk: OpenBao, or Vault if that was asked for.
#[derive(Debug)]
pub struct OpenBao {
    server: Server,
    product: Product,
    command: Command,
    port: Port,
    tls_port: Option<Port>,
    certificates: Certificates,
    api: Api,
    unseal_key: SecretString,
    root_accessor: String,
    backstage: Backstage,
}

/// How its command-line client is run.
#[derive(Clone, Debug)]
enum Command {
    /// From this machine.
    Here(String),
    /// In the server's container.
    Inside(Arc<Container>),
}

disturbed!(OpenBao);

/// The file with its configuration, in its folder.
const CONFIGURATION: &str = "openbao.json";

impl OpenBao {
    /// Starts, initializes and unseals a server that knows nothing yet.
    pub(crate) async fn launch(
        site: &Site,
        config: &Config,
        product: Product,
        authority: &Authority,
        ports: &Ports,
    ) -> Result<Self> {
        let (server, command) = match &site.ground {
            Ground::Machine => process(site, product, config.versions.openbao).await?,
            Ground::Pod(pod) => container(site, pod, product).await?,
        };
        let (port, tls_port) = (ports.openbao.clone(), ports.openbao_tls.clone());
        let certificates = authority.write(server.folder())?;
        let settings = settings(site, product, server.folder(), ports, config);
        let path = server.folder().join(CONFIGURATION);
        fs::write(&path, settings.to_string()).map_err(Error::file(path))?;
        let api = Api::new(product.name(), format!("http://127.0.0.1:{}", port.number()))?;
        let mut openbao = Self {
            server,
            product,
            command,
            port,
            tls_port,
            certificates,
            api,
            unseal_key: SecretString::default(),
            root_accessor: String::new(),
            backstage: site.backstage.clone(),
        };
        openbao.start_process().await?;
        openbao.initialize().await?;
        openbao.unseal().await?;
        let root = openbao.request("GET", "auth/token/lookup-self", None).await?;
        openbao.root_accessor = root["data"]["accessor"].as_str().unwrap_or_default().into();
        Ok(openbao)
    }

    /// Which of the two it is.
    pub fn product(&self) -> Product {
        self.product
    }

    /// The address of plain HTTP, the same after every start.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// The address of HTTPS, if the configuration asked for it.
    pub fn tls_address(&self) -> Option<String> {
        self.tls_port.as_ref().map(|port| format!("https://127.0.0.1:{}", port.number()))
    }

    /// The certificates for [`OpenBao::tls_address`].
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The token that may do everything.
    pub fn root_token(&self) -> &str {
        self.api.token()
    }

    /// A shell's command line that runs its command-line client as root, up to the client's arguments. It reads the
    /// variables of [`Testbed::environment`](crate::Testbed::environment).
    ///
    /// # Errors
    ///
    /// If the server is a container that is gone.
    pub async fn client(&self) -> Result<String> {
        let token = r#"VAULT_TOKEN="$TESTBED_ROOT_TOKEN""#;
        Ok(match &self.command {
            Command::Here(program) => format!("{token} {program}"),
            Command::Inside(container) => {
                let (client, id) = (container.client(), container.id().await?);
                format!(
                    "{token} {client} exec -e VAULT_ADDR -e VAULT_TOKEN {id:.12} {}",
                    program(self.product)
                )
            }
        })
    }

    /// Its program, as it is called where the server runs.
    pub(crate) fn program(&self) -> String {
        match &self.command {
            Command::Here(program) => program.clone(),
            Command::Inside(_) => program(self.product).into(),
        }
    }

    /// Starts it again after [`OpenBao::kill`] or [`OpenBao::stop`], with the same port and storage, and unseals it.
    pub async fn start_again(&self) -> Result<()> {
        self.start_process().await?;
        self.unseal().await
    }

    /// Its version, as it says itself.
    pub async fn version(&self) -> Result<String> {
        let health = self.request("GET", "sys/health", None).await?;
        Ok(health["version"].as_str().unwrap_or_default().to_owned())
    }

    /// Seals it: it goes on running and answers 503.
    pub async fn seal(&self) -> Result<()> {
        self.request("PUT", "sys/seal", None).await.map(drop)
    }

    /// Unseals it, and waits until it serves requests.
    pub async fn unseal(&self) -> Result<()> {
        self.request("PUT", "sys/unseal", Some(json!({ "key": self.unseal_key.expose_secret() }))).await?;
        let api = self.api.clone();
        let active = self.backstage.run(async move {
            poll(PATIENCE, || async { Ok(api.status("sys/health").await.filter(|&status| status == 200)) })
                .await
        });
        match active.await? {
            Some(_) => Ok(()),
            None => Err(self.server.failed("did not become active after it was unsealed").await),
        }
    }

    /// Asks for something as root: a path without `/v1/`, such as `sys/mounts`; an empty answer is `Null`.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (api, method, path) = (self.api.clone(), method.to_owned(), path.to_owned());
        self.backstage.run(async move { api.request(&method, &path, body).await }).await
    }

    /// As [`OpenBao::request`], with the answer wrapped: returns the token with which it can be had once, for so long.
    pub async fn request_wrapped(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        lasts: Duration,
    ) -> Result<String> {
        let (api, method, path) = (self.api.clone(), method.to_owned(), path.to_owned());
        let asked = async move { api.request_wrapped(&method, &path, body, lasts).await };
        let answer = self.backstage.run(asked).await?;
        Ok(answer["wrap_info"]["token"].as_str().unwrap_or_default().to_owned())
    }

    /// Revokes every lease whose id begins so, and waits until that is done.
    pub async fn revoke_prefix(&self, prefix: &str) -> Result<()> {
        let sync = Some(json!({ "sync": true }));
        self.request("PUT", &format!("sys/leases/revoke-prefix/{prefix}"), sync).await.map(drop)
    }

    /// The ids of the live leases of PostgreSQL's credentials.
    pub async fn leases(&self) -> Result<Vec<String>> {
        self.leases_of(DB_ROLE).await
    }

    /// The ids of the live leases of a role of the engine `database`.
    pub async fn leases_of(&self, role: &str) -> Result<Vec<String>> {
        self.leases_at(&format!("database/creds/{role}")).await
    }

    /// The ids of the live leases of credentials that were issued at a path, such as [`RabbitMq::path`](crate::RabbitMq::path).
    pub async fn leases_at(&self, path: &str) -> Result<Vec<String>> {
        let prefix = format!("{path}/");
        let ids = self.list(&format!("sys/leases/lookup/{prefix}")).await?;
        Ok(ids.into_iter().map(|id| prefix.clone() + &id).collect())
    }

    /// The accessors of the live service tokens, but for the root token's.
    pub async fn tokens(&self) -> Result<Vec<String>> {
        let mut accessors = self.list("auth/token/accessors").await?;
        accessors.retain(|accessor| *accessor != self.root_accessor);
        Ok(accessors)
    }

    /// Lists the keys at a path; none if there is nothing.
    async fn list(&self, path: &str) -> Result<Vec<String>> {
        match self.request("LIST", path, None).await {
            Ok(answer) => Ok(serde_json::from_value(answer["data"]["keys"].clone()).unwrap_or_default()),
            Err(Error::Answer { status, .. }) if status == "404" => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn start_process(&self) -> Result<()> {
        let api = self.api.clone();
        let answers = move || {
            let api = api.clone();
            async move { api.status("sys/seal-status").await.is_some() }
        };
        self.server.start(answers).await
    }

    async fn initialize(&mut self) -> Result<()> {
        let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let answer = self.request("PUT", "sys/init", Some(shares)).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.unseal_key = text(&answer["keys_base64"][0]).into();
        self.api.log_in(text(&answer["root_token"]));
        let path = self.folder().join("unseal-key");
        fs::write(&path, self.unseal_key.expose_secret()).map_err(Error::file(path))
    }
}

/// The program's name on `PATH` and in its image.
fn program(product: Product) -> &'static str {
    match product {
        Product::OpenBao => "bao",
        Product::Vault => "vault",
    }
}

async fn process(site: &Site, product: Product, version: Option<Version>) -> Result<(Server, Command)> {
    let (report, threads) = (site.report, site.backstage.clone());
    let supervisor = site.backstage.block(move || {
        let program = match product {
            Product::OpenBao => locate::openbao_of(version, report)?,
            Product::Vault => locate::vault()?,
        };
        let client = Command::Here(program.display().to_string());
        let configuration = format!("-config={CONFIGURATION}");
        let plan = Plan {
            name: product.name(),
            command: vec![program.into(), "server".into(), configuration.into()],
            user: None,
            stop: "TERM",
            // Its storage goes as well, so there is nothing to be orderly about.
            end: "KILL",
        };
        Ok((Supervisor::new(&plan, &threads)?, client))
    });
    let (supervisor, client) = supervisor.await?;
    Ok((Server::new(product.name(), Arc::new(supervisor), &site.backstage), client))
}

async fn container(site: &Site, pod: &Pod, product: Product) -> Result<(Server, Command)> {
    let container = pod.container(Spec {
        name: product.name(),
        image: pod.image(Image::from(product)).await?,
        // With its own name first, the entrypoint adds no folder of its own and still gives root up.
        command: vec![program(product).into(), "server".into(), format!("-config={SHOWN}/{CONFIGURATION}")],
        // A capability for locking memory, which is not asked for.
        environment: vec![("SKIP_SETCAP", "true".into())],
        stop: "TERM",
    })?;
    let container = Arc::new(container);
    let server = Server::new(product.name(), container.clone(), &site.backstage);
    Ok((server, Command::Inside(container)))
}

fn settings(site: &Site, product: Product, folder: &Path, ports: &Ports, config: &Config) -> Value {
    // Where the server finds its folder, and where it may write.
    let (shown, storage) = match (&site.ground, product) {
        (Ground::Machine, _) => (folder, folder.join("storage")),
        (Ground::Pod(_), Product::OpenBao) => (Path::new(SHOWN), "/openbao/file/storage".into()),
        (Ground::Pod(_), Product::Vault) => (Path::new(SHOWN), "/vault/file/storage".into()),
    };
    let listen = |port: &Port| format!("{}:{}", site.ground.listen(), port.number());
    let mut listeners = vec![json!({ "tcp": { "address": listen(&ports.openbao), "tls_disable": true } })];
    if let Some(port) = &ports.openbao_tls {
        let mut listener = json!({
            "address": listen(port),
            "tls_cert_file": shown.join("server.pem"),
            "tls_key_file": shown.join("server-key.pem"),
        });
        if config.tls == Tls::Mutual {
            listener["tls_require_and_verify_client_cert"] = true.into();
            listener["tls_client_ca_file"] = json!(shown.join("ca.pem"));
        }
        listeners.push(json!({ "tcp": listener }));
    }
    let is_old = config.versions.openbao.is_some_and(|version| version.is_before(2, 7));
    let storage = match product {
        // There is no `pebbledb` before 2.7.
        Product::OpenBao if is_old => json!({ "file": { "path": storage } }),
        // Release 2.7 no longer has the storage called `file`. `pebbledb` is on disk as well, needs one node only, and
        // starts in 0.3 s.
        Product::OpenBao => json!({ "pebbledb": { "path": storage } }),
        Product::Vault => json!({ "file": { "path": storage } }),
    };
    let mut settings = json!({
        "storage": storage,
        "listener": listeners,
        "api_addr": format!("http://127.0.0.1:{}", ports.openbao.number()),
        "disable_clustering": true,
        "log_level": "info",
    });
    if product == Product::Vault {
        // OpenBao has no such setting any more.
        settings["disable_mlock"] = true.into();
    }
    settings
}
