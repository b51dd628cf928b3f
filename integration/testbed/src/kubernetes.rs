//! The one endpoint of a Kubernetes API server that OpenBao calls at a login, as kube-apiserver 1.36 answers there.

mod answers;
mod objects;
mod reviews;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};

use hyper::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use answers::{State, Trouble, answer, lock};
pub(crate) use objects::{Kind, Objects, uuid};

use crate::{
    backstage::{Backstage, poll},
    error::{Error, Result},
    jwt::{Claims, Signer},
    pki::Authority,
    ports::Port,
    serve::{Server, acceptor},
    site::{Ground, Site},
};

/// The audience of tokens for the API server itself.
pub(crate) const API_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

const LOCALHOST: &str = "127.0.0.1";

/// This machine's name inside a container, where the engine runs in a virtual one, as Docker Desktop's does.
pub(crate) const DESKTOP: &str = "host.docker.internal";

/// How long a port may be in use after its server was told to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers token reviews over HTTPS as an API server does.
///
/// As a real one it remembers for ten seconds that a token was good, forgives times that are off by a minute, and wants
/// to be asked by somebody who may. Every account and pod is there until it is deleted.
#[derive(Debug)]
pub struct ApiServer {
    /// None while it is down.
    server: Mutex<Option<Server>>,
    port: Port,
    listener: Listener,
    /// What OpenBao knows this machine by.
    host: String,
    authority: String,
    reviewer: SecretString,
    state: Arc<State>,
    backstage: Backstage,
}

/// Where it listens, and as whom.
#[derive(Clone)]
struct Listener {
    address: SocketAddr,
    tls: TlsAcceptor,
}

impl ApiServer {
    pub(crate) fn start(site: &Site, authority: &Authority, signer: &Arc<Signer>) -> Result<Self> {
        let reviewer = signer.sign(&Claims::reviewer())?;
        let state = Arc::new(State::new(signer));
        let port = Port::reserve()?;
        let listen = |address: IpAddr, host: &str| -> Result<_> {
            let tls = acceptor(&authority.server(host)?)?;
            let listener = Listener { address: (address, port.number()).into(), tls };
            Ok((listener.start(&site.backstage, &state)?, listener))
        };
        let here = Ipv4Addr::LOCALHOST.into();
        let ((server, listener), host) = match &site.ground {
            Ground::Machine => (listen(here, LOCALHOST)?, LOCALHOST.to_owned()),
            Ground::Pod(pod) => {
                let gateway = pod.gateway().map(|gateway| (gateway, gateway.to_string()));
                let on_gateway = gateway.map(|(gateway, name)| (listen(gateway, &name), name));
                match on_gateway {
                    Some((Ok(server), name)) => (server, name),
                    // The engine runs in a virtual machine, from where this name leads to our loopback.
                    _ => (listen(here, DESKTOP)?, DESKTOP.to_owned()),
                }
            }
        };
        Ok(Self {
            server: Mutex::new(Some(server)),
            port,
            listener,
            host,
            authority: authority.pem().into(),
            reviewer: reviewer.into(),
            state,
            backstage: site.backstage.clone(),
        })
    }

    /// The address that OpenBao knows it by.
    pub fn address(&self) -> String {
        format!("https://{}:{}", self.host, self.port.number())
    }

    /// How often it was asked for a review, whatever it answered.
    pub fn reviews(&self) -> usize {
        self.state.asked.load(Ordering::Acquire)
    }

    /// Takes it down: connections are closed, and new ones are refused.
    pub fn stop(&self) {
        self.server().take();
    }

    /// Starts it again after [`ApiServer::stop`], at the same address, and with what it remembered.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when somebody else listens there.
    pub async fn start_again(&self) -> Result<()> {
        self.stop();
        let (listener, state, backstage) =
            (self.listener.clone(), self.state.clone(), self.backstage.clone());
        // Its predecessor may not be gone yet.
        let started = self.backstage.run(async move {
            poll(PATIENCE, || async { Ok(listener.start(&backstage, &state).ok()) }).await
        });
        let server = started.await?.ok_or_else(|| Error::System {
            what: "the API server's port is in somebody else's hands",
            source: std::io::ErrorKind::AddrInUse.into(),
        })?;
        *self.server() = Some(server);
        Ok(())
    }

    /// Makes it answer after so long.
    pub fn slow_down(&self, delay: Duration) {
        lock(&self.state.trouble).delay = delay;
    }

    /// Makes it answer everything with this status, such as 429, 500 or 503, and with `Retry-After` where there are seconds.
    pub fn refuse(&self, status: u16, retry_after: Option<u64>) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        lock(&self.state.trouble).refusal = Some((status, retry_after));
    }

    /// Makes it answer at once and properly again. It does not start one that is down.
    pub fn heal(&self) {
        *lock(&self.state.trouble) = Trouble::default();
    }

    /// Gives the reviewer the right to ask, or takes it away.
    pub fn allow_reviews(&self, allowed: bool) {
        self.state.reviewer_may.store(allowed, Ordering::Release);
    }

    /// Deletes a service account: its tokens are good no more, once it is forgotten that they were.
    pub fn delete_account(&self, namespace: &str, name: &str) {
        self.state.signer.objects().delete(Kind::Account, namespace, name);
    }

    /// Makes an account of the name of one that was deleted, with another UID: tokens of the old one stay refused.
    pub fn create_account(&self, namespace: &str, name: &str) {
        self.state.signer.objects().create(Kind::Account, namespace, name);
    }

    /// Deletes the pod that runs as an account; the tokens that it was given go with it.
    pub fn delete_pod_of(&self, namespace: &str, account: &str) {
        self.state.signer.objects().delete(Kind::Pod, namespace, &pod(account));
    }

    /// Makes a pod that runs as the account, in the place of the one that was deleted.
    pub fn create_pod_of(&self, namespace: &str, account: &str) {
        self.state.signer.objects().create(Kind::Pod, namespace, &pod(account));
    }

    /// What OpenBao is told of it, to ask with this token, or with the one that it may ask with.
    pub(crate) fn settings(&self, reviewer: Option<&str>) -> Value {
        json!({
            "kubernetes_host": self.address(),
            "kubernetes_ca_cert": self.authority,
            "token_reviewer_jwt": reviewer.unwrap_or_else(|| self.reviewer.expose_secret()),
            "disable_local_ca_jwt": true,
        })
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        lock(&self.server)
    }
}

fn pod(account: &str) -> String {
    Claims { name: account.to_owned(), ..Claims::default() }.pod()
}

impl Listener {
    fn start(&self, backstage: &Backstage, state: &Arc<State>) -> Result<Server> {
        let state = state.clone();
        Server::start(backstage, self.address, Some(self.tls.clone()), move |request| {
            answer(state.clone(), request)
        })
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}
