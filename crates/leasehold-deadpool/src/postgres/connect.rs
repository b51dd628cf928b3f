//! Opens connections with the credentials in force.

use std::{pin::Pin, sync::Arc};

use deadpool_postgres::Connect;
use leasehold_core::{
    Credentials, Current, ErrorKind, ExposeSecret,
    in_place::{Freshness, InForce, Tag, Tries},
};
use tokio::task::JoinHandle;
use tokio_postgres::{
    Client, Config, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};
use tracing::debug;

use super::tags;
use crate::refusals::{kind, shown};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What every connection is opened with beside its credentials. A TLS connector has a type of its own; this has not.
pub(super) trait Dial: Send + Sync + 'static {
    /// Opens a connection, whose task holds the tag until it ends.
    fn dial(&self, tag: Arc<Tag>) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>>;
}

pub(super) struct Dialer<T> {
    pub(super) config: Config,
    pub(super) tls: T,
}

impl<T> Dial for Dialer<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync,
    T::TlsConnect: Send + Sync,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn dial(&self, tag: Arc<Tag>) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let config = with(&self.config, tag.issued().secret());
        let tls = self.tls.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(tls).await?;
            let task = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(error = %shown(&error), "a connection ended");
                }
                drop(tag);
            });
            Ok((client, task))
        })
    }
}

tokio::task_local! {
    /// What the rotation has a connection opened with, before it is in force.
    pub(super) static OPEN_WITH: Arc<Tag>;
}

/// The pool's own way to a connection.
pub(super) struct Connector {
    pub(super) dialer: Arc<dyn Dial>,
    pub(super) in_force: Arc<InForce>,
    pub(super) current: Current<Credentials>,
}

impl Connector {
    /// Credentials that were revoked, or whose password was replaced, are noticed here first: the keeper is told, and
    /// whoever waits for this connection gets one with their successor.
    async fn connect(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        if let Ok(tag) = OPEN_WITH.try_with(Arc::clone) {
            return self.dial_with(tag).await;
        }
        let (mut tries, mut was_late) = (Tries::default(), false);
        loop {
            let Ok(issued) = self.in_force.get() else {
                // The pool is closed, and its error type has no way to say so.
                return std::future::pending().await;
            };
            let generation = issued.generation();
            let tag = Arc::new(self.in_force.tag(issued));
            match self.dial_with(Arc::clone(&tag)).await {
                Err(refused) if kind(&refused) == ErrorKind::CredentialsRefused => {
                    drop(tag);
                    if !self.in_force.try_again(generation, &self.current, &mut tries).await {
                        return Err(refused);
                    }
                }
                // The handshake took longer than its credentials lasted, and they have a successor.
                Ok(_) if tag.freshness() == Freshness::Ended && !was_late => was_late = true,
                answer => return answer,
            }
        }
    }

    async fn dial_with(&self, tag: Arc<Tag>) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let opened = self.dialer.dial(Arc::clone(&tag)).await?;
        tags::opened(&tag);
        Ok(opened)
    }
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(self.connect())
    }
}

fn with(config: &Config, credentials: &Credentials) -> Config {
    let mut config = config.clone();
    config.user(credentials.username()).password(credentials.password().expose_secret());
    config
}
