//! A `bao proxy` in front of OpenBao.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    image::Image,
    openbao::{Api, KUBERNETES_MOUNT, OpenBao, ROLE},
    pod::{SHOWN, Spec},
    ports::Port,
    process::{Plan, Supervisor},
    server::{Server, disturbed},
    service_account::ServiceAccount,
    site::{Ground, Site},
};

/// Its name in messages, and in its folder's name.
const NAME: &str = "bao-proxy";

/// The file with its configuration, in its folder.
const CONFIGURATION: &str = "proxy.hcl";

/// What a `bao proxy` does by itself; without any of it, it passes on what is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxySettings {
    /// Whether it remembers tokens and leases: what is asked again, with the same token, is answered from memory.
    pub cache: bool,
    /// Whether it logs in as the service account, and lends its token to those who ask without one.
    pub auto_auth: bool,
}

/// The server's own proxy, between a client and the server.
#[derive(Debug)]
pub struct BaoProxy {
    server: Server,
    port: Port,
    api: Api,
    settings: ProxySettings,
}

disturbed!(BaoProxy);

impl ProxySettings {
    /// With a cache.
    #[must_use]
    pub fn cache(mut self) -> Self {
        self.cache = true;
        self
    }

    /// With a login of its own.
    #[must_use]
    pub fn auto_auth(mut self) -> Self {
        self.auto_auth = true;
        self
    }
}

impl BaoProxy {
    /// Starts one in front of a server that is configured.
    pub(crate) async fn launch(
        site: &Site,
        openbao: &OpenBao,
        account: &ServiceAccount,
        port: Port,
        settings: ProxySettings,
    ) -> Result<Self> {
        let server = server(site, openbao).await?;
        let token = token(site, &server, account)?;
        let listen = format!("{}:{}", site.ground.listen(), port.number());
        let path = server.folder().join(CONFIGURATION);
        fs::write(&path, settings.written(&openbao.address(), &listen, &token)).map_err(Error::file(path))?;
        let api = Api::new(NAME, format!("http://127.0.0.1:{}", port.number()))?;
        let proxy = Self { server, port, api, settings };
        proxy.start_again().await?;
        Ok(proxy)
    }

    /// The address to give to a client instead of the server's, the same after every start.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// What it does by itself.
    pub fn settings(&self) -> ProxySettings {
        self.settings
    }

    /// Starts it again after [`BaoProxy::kill`] or [`BaoProxy::stop`], and waits until it passes something on and, where it
    /// logs in by itself, has done so.
    pub async fn start_again(&self) -> Result<()> {
        let (api, auto_auth) = (self.api.clone(), self.settings.auto_auth);
        let answers = move || {
            let api = api.clone();
            async move {
                let path = if auto_auth { "auth/token/lookup-self" } else { "sys/health" };
                api.status(path).await == Some(200)
            }
        };
        self.server.start(answers).await
    }
}

impl ProxySettings {
    /// What it reads at its start.
    fn written(self, openbao: &str, listen: &str, token: &Path) -> String {
        let mut text = format!(
            "vault {{ address = \"{openbao}\" }}
listener \"tcp\" {{
  address = \"{listen}\"
  tls_disable = true
}}
api_proxy {{ use_auto_auth_token = {} }}
",
            self.auto_auth
        );
        if self.cache {
            text.push_str("cache {}\n");
        }
        if self.auto_auth {
            text.push_str(&format!(
                "auto_auth {{
  method \"kubernetes\" {{
    mount_path = \"auth/{KUBERNETES_MOUNT}\"
    config = {{
      role = \"{ROLE}\"
      token_path = \"{}\"
    }}
  }}
}}
",
                token.display()
            ));
        }
        text
    }
}

/// A server that is not started yet.
async fn server(site: &Site, openbao: &OpenBao) -> Result<Server> {
    let product = openbao.product();
    let program = openbao.program();
    let configuration = |folder: &str| format!("-config={folder}{CONFIGURATION}");
    let (threads, proxy) = (site.backstage.clone(), "proxy");
    match &site.ground {
        Ground::Machine => {
            let supervisor = site.backstage.block(move || {
                let plan = Plan {
                    name: NAME,
                    command: vec![program.into(), proxy.into(), configuration("").into()],
                    user: None,
                    stop: "TERM",
                    end: "KILL",
                };
                Supervisor::new(&plan, &threads)
            });
            Ok(Server::new(NAME, Arc::new(supervisor.await?), &site.backstage))
        }
        Ground::Pod(pod) => {
            let container = pod.container(Spec {
                name: NAME,
                image: pod.image(Image::from(product)).await?,
                command: vec![program, proxy.into(), configuration(&format!("{SHOWN}/"))],
                environment: vec![("SKIP_SETCAP", "true".into())],
                stop: "TERM",
            })?;
            Ok(Server::new(NAME, Arc::new(container), &site.backstage))
        }
    }
}

/// Where it finds the service account's token: a container is shown its own folder only, and so a copy.
fn token(site: &Site, server: &Server, account: &ServiceAccount) -> Result<PathBuf> {
    let token = account.token_path();
    match &site.ground {
        Ground::Machine => Ok(token),
        Ground::Pod(_) => {
            let copy = server.folder().join("token");
            fs::copy(&token, &copy).map_err(Error::file(copy))?;
            Ok(Path::new(SHOWN).join("token"))
        }
    }
}
