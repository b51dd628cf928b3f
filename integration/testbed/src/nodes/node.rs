//! One of the nodes.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{
    cut::{Cut, Wire},
    roll::{NodeState, Roll},
};
use crate::{
    backstage::{Backstage, poll},
    error::{Error, Result},
    openbao::Api,
    pod::Container,
    ports::Port,
    server::{Server, disturbed},
};

/// How long a node may take to lead or stand by once nothing keeps it from that.
const RETURN: Duration = Duration::from_secs(60);

/// One node of [`Nodes`](super::Nodes), a server of its own.
#[derive(Debug)]
pub struct Node {
    index: usize,
    server: Server,
    client: String,
    container: Option<Arc<Container>>,
    address: String,
    wire: Wire,
    api: Api,
    recovery_key: SecretString,
    roll: Roll,
    backstage: Backstage,
    // Ours as long as the node is.
    _port: Option<Port>,
}

/// What a node is made of.
pub(super) struct Outfit {
    pub(super) name: &'static str,
    pub(super) server: Server,
    /// OpenBao's command-line client, on this machine or in the container.
    pub(super) client: String,
    pub(super) container: Option<Arc<Container>>,
    pub(super) address: String,
    pub(super) wire: Wire,
    pub(super) port: Option<Port>,
    pub(super) backstage: Backstage,
}

disturbed!(Node);

impl Outfit {
    pub(super) fn api(&self) -> Result<Api> {
        Api::new(self.name, self.address.clone())
    }
}

impl Node {
    pub(super) fn new(index: usize, outfit: Outfit, api: &Api, roll: &Roll) -> Self {
        let Outfit { name: _, server, client, container, address, wire, port, backstage } = outfit;
        Self {
            index,
            server,
            client,
            container,
            address,
            wire,
            api: api.clone(),
            recovery_key: SecretString::default(),
            roll: roll.clone(),
            backstage,
            _port: port,
        }
    }

    /// Its address of plain HTTP, the same after every start.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// How it is. A node that does not answer within half a second is silent.
    ///
    /// # Errors
    ///
    /// None of the node's; only if the testbed's threads are gone.
    pub async fn state(&self) -> Result<NodeState> {
        let (roll, index) = (self.roll.clone(), self.index);
        self.backstage.run(async move { Ok(roll.state(index).await) }).await
    }

    /// Asks it for something as root: a path without `/v1/`, such as `sys/mounts`; an empty answer is `Null`. A node that
    /// stands by passes on what it cannot answer.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`](crate::Error::Answer) with what it said if it refuses,
    /// [`Error::Unanswered`](crate::Error::Unanswered) if it says nothing within ten seconds.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (api, method, path) = (self.api.clone(), method.to_owned(), path.to_owned());
        self.backstage.run(async move { api.request(&method, &path, body).await }).await
    }

    /// A shell's command line that runs OpenBao's client as root on this node, up to the client's arguments. It reads
    /// `TESTBED_ROOT_TOKEN` of [`Nodes::environment`](super::Nodes::environment).
    ///
    /// # Errors
    ///
    /// If the node is a container that is gone.
    pub async fn client(&self) -> Result<String> {
        let variables = format!("VAULT_ADDR={} VAULT_TOKEN=\"$TESTBED_ROOT_TOKEN\"", self.address);
        Ok(match &self.container {
            None => format!("{variables} {}", self.client),
            Some(container) => {
                let (engine, id) = (container.client(), container.id().await?);
                format!("{variables} {engine} exec -e VAULT_ADDR -e VAULT_TOKEN {id:.12} {}", self.client)
            }
        })
    }

    /// Starts it again after [`Node::kill`] or [`Node::stop`], with the same address and storage; it unseals itself. Waits
    /// until it answers, whatever that is: [`Node::bring_back`] waits longer.
    ///
    /// # Errors
    ///
    /// [`Error::Server`](crate::Error::Server), with the end of its log, if it does not start.
    pub async fn start_again(&self) -> Result<()> {
        self.start_process().await
    }

    /// Seals it: it goes on running and answers 503. Its vote is lost meanwhile. A node that has just given up leading says
    /// that it stands by and answers 500 until it does, so that is asked again, for a minute at most.
    ///
    /// # Errors
    ///
    /// As for [`request`](Self::request).
    pub async fn seal(&self) -> Result<()> {
        let api = self.api.clone();
        let sealed = self.backstage.run(async move {
            poll(RETURN, || async {
                match api.request("PUT", "sys/seal", None).await {
                    Err(Error::Answer { status, .. }) if status == "500" => Ok(None),
                    answer => answer.map(Some),
                }
            })
            .await
        });
        match sealed.await? {
            Some(_) => Ok(()),
            None => self.request("PUT", "sys/seal", None).await.map(drop),
        }
    }

    /// Unseals it, without waiting until it leads or stands by.
    ///
    /// # Errors
    ///
    /// As for [`request`](Self::request).
    pub async fn unseal(&self) -> Result<()> {
        let key = json!({ "key": self.recovery_key.expose_secret() });
        self.request("PUT", "sys/unseal", Some(key)).await.map(drop)
    }

    /// Makes it give up leading, in favour of another for ten seconds at least. It does nothing to a node that does not lead.
    ///
    /// # Errors
    ///
    /// As for [`request`](Self::request).
    pub async fn step_down(&self) -> Result<()> {
        self.request("PUT", "sys/step-down", None).await.map(drop)
    }

    /// Cuts it off, instead of any cut before. A container's own network is taken from it. A process shares this machine's:
    /// there each connection passes through the testbed, which holds it back; of what a cut node asks for itself that is all
    /// but its reviews of Kubernetes tokens.
    ///
    /// # Errors
    ///
    /// [`Error::System`](crate::Error::System) for a process on another system than Linux, where it cannot be seen whose
    /// connections are whose; [`Error::Command`](crate::Error::Command) or [`Error::Engine`](crate::Error::Engine) for a
    /// container whose network cannot be changed.
    pub async fn cut_off(&self, cut: Cut) -> Result<()> {
        self.wire.cut(cut).await?;
        self.roll.set_apart(self.index, true);
        Ok(())
    }

    /// Undoes [`Node::cut_off`].
    ///
    /// # Errors
    ///
    /// As for [`cut_off`](Self::cut_off).
    pub async fn reconnect(&self) -> Result<()> {
        self.wire.mend().await?;
        self.roll.set_apart(self.index, false);
        Ok(())
    }

    /// Undoes whatever was done to it, and waits until it leads or stands by.
    ///
    /// # Errors
    ///
    /// [`Error::Server`](crate::Error::Server), with the end of its log, if it does not come back within a minute.
    pub async fn bring_back(&self) -> Result<()> {
        self.reconnect().await?;
        self.resume().await?;
        if !self.server.runner().alive().await? {
            self.start_process().await?;
        }
        let (roll, index) = (self.roll.clone(), self.index);
        let (api, key) = (self.api.clone(), self.recovery_key.clone());
        let back = self.backstage.run(async move {
            poll(RETURN, || async {
                match roll.state(index).await {
                    NodeState::Leader | NodeState::Standby => Ok(Some(())),
                    NodeState::Silent => Ok(None),
                    NodeState::Sealed => {
                        // It may be about to unseal itself, and refuses meanwhile.
                        let key = json!({ "key": key.expose_secret() });
                        let _ = api.request("PUT", "sys/unseal", Some(key)).await;
                        Ok(None)
                    }
                }
            })
            .await
        });
        match back.await? {
            Some(()) => Ok(()),
            None => Err(self.server.failed(format!("did not come back within {RETURN:?}")).await),
        }
    }

    pub(super) async fn start_process(&self) -> Result<()> {
        let api = self.api.clone();
        let answers = move || {
            let api = api.clone();
            async move { api.status("sys/seal-status").await.is_some() }
        };
        self.server.start(answers).await
    }

    /// Learns who root is, and the key that it can be unsealed with by hand.
    pub(super) fn initialized(&mut self, root: String, recovery_key: String) {
        self.api.log_in(root);
        self.recovery_key = recovery_key.into();
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }
}
