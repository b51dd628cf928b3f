//! An OpenBao server.

mod api;
mod configure;
mod databases;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    backstage::{Backstage, poll},
    config::{Config, Tls},
    error::{Error, Result},
    locate,
    pki::{Authority, Certificates},
    ports::Port,
    supervise::{Plan, Supervisor, supervised},
};
use api::{Api, PATIENCE};
pub(crate) use configure::{KUBERNETES_MOUNT, ROLE};
pub(crate) use databases::{DB_ROLE, Database, MARIADB_ROLE, REDIS_ROLE};

/// A server that needs to be unsealed after every start, with its storage in a temporary folder.
#[derive(Debug)]
pub struct OpenBao {
    server: Supervisor,
    binary: PathBuf,
    port: Port,
    tls_port: Option<Port>,
    certificates: Certificates,
    api: Api,
    unseal_key: String,
    root_accessor: String,
    backstage: Backstage,
}

supervised!(OpenBao);

impl OpenBao {
    /// Starts, initializes and unseals a server that knows nothing yet.
    pub(crate) async fn launch(
        backstage: &Backstage,
        config: &Config,
        authority: &Authority,
    ) -> Result<Self> {
        let report = config.report;
        let bao = backstage.block(move || locate::openbao(report)).await?;
        let plan = Plan {
            name: "OpenBao",
            command: vec![bao.clone().into(), "server".into(), "-config=openbao.json".into()],
            user: None,
            stop: "TERM",
            // Its storage goes as well, so there is nothing to be orderly about.
            end: "KILL",
        };
        let threads = backstage.clone();
        let server = backstage.block(move || Supervisor::new(plan, &threads)).await?;
        let port = Port::reserve()?;
        let tls_port = if config.tls == Tls::Off { None } else { Some(Port::reserve()?) };
        let certificates = authority.write(server.folder())?;
        write_configuration(server.folder(), &port, tls_port.as_ref(), config.tls, &certificates)?;
        let api = Api::new(format!("http://127.0.0.1:{}", port.number()))?;
        let mut openbao = Self {
            server,
            binary: bao,
            port,
            tls_port,
            certificates,
            api,
            unseal_key: String::new(),
            root_accessor: String::new(),
            backstage: backstage.clone(),
        };
        openbao.start_process().await?;
        openbao.initialize().await?;
        openbao.unseal().await?;
        let root = openbao.request("GET", "auth/token/lookup-self", None).await?;
        openbao.root_accessor = root["data"]["accessor"].as_str().unwrap_or_default().into();
        Ok(openbao)
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

    /// The program, which is its command-line client as well.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Starts it again after [`OpenBao::kill`] or [`OpenBao::stop`], with the same port and storage, and unseals it.
    pub async fn start_again(&self) -> Result<()> {
        self.start_process().await?;
        self.unseal().await
    }

    /// Seals it: it goes on running and answers 503.
    pub async fn seal(&self) -> Result<()> {
        self.request("PUT", "sys/seal", None).await.map(drop)
    }

    /// Unseals it, and waits until it serves requests.
    pub async fn unseal(&self) -> Result<()> {
        self.request("PUT", "sys/unseal", Some(json!({ "key": self.unseal_key }))).await?;
        let api = self.api.clone();
        let active = self.backstage.run(async move {
            poll(PATIENCE, || async { Ok(api.status("sys/health").await.filter(|&status| status == 200)) })
                .await
        });
        match active.await? {
            Some(_) => Ok(()),
            None => Err(self.server.failed("did not become active after it was unsealed")),
        }
    }

    /// Asks for something as root: a path without `/v1/`, such as `sys/mounts`; an empty answer is `Null`.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (api, method, path) = (self.api.clone(), method.to_owned(), path.to_owned());
        self.backstage.run(async move { api.request(&method, &path, body).await }).await
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
        let prefix = format!("database/creds/{role}/");
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
        self.unseal_key = text(&answer["keys_base64"][0]);
        self.api.log_in(text(&answer["root_token"]));
        let path = self.folder().join("unseal-key");
        fs::write(&path, &self.unseal_key).map_err(Error::file(path))
    }
}

fn write_configuration(
    folder: &Path,
    port: &Port,
    tls_port: Option<&Port>,
    tls: Tls,
    certificates: &Certificates,
) -> Result<()> {
    let mut listeners = vec![json!({
        "tcp": { "address": format!("127.0.0.1:{}", port.number()), "tls_disable": true },
    })];
    if let Some(port) = tls_port {
        let mut listener = json!({
            "address": format!("127.0.0.1:{}", port.number()),
            "tls_cert_file": certificates.server,
            "tls_key_file": certificates.server_key,
        });
        if tls == Tls::Mutual {
            listener["tls_require_and_verify_client_cert"] = true.into();
            listener["tls_client_ca_file"] = json!(certificates.authority);
        }
        listeners.push(json!({ "tcp": listener }));
    }
    let configuration = json!({
        // Release 2.7 no longer has the storage called `file`.
        "storage": { "pebbledb": { "path": folder.join("storage") } },
        "listener": listeners,
        "api_addr": format!("http://127.0.0.1:{}", port.number()),
        "disable_clustering": true,
        "log_level": "info",
    });
    let path = folder.join("openbao.json");
    fs::write(&path, configuration.to_string()).map_err(Error::file(path))
}
