//! A client, and the task that speaks for it.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{Client, Connection};
use tracing::debug;

use super::error::shown;

/// A connection to PostgreSQL. It derefs to [`tokio_postgres::Client`].
pub struct PostgresConnection {
    client: Client,
    task: JoinHandle<()>,
}

impl PostgresConnection {
    pub(super) fn new<S, T>(client: Client, connection: Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(error = %shown(&error), "a connection ended");
            }
        });
        Self { client, task }
    }

    /// Says good-bye to the server, and waits until that was sent.
    pub(super) async fn close(self) {
        drop(self.client);
        // A server that does not answer keeps nobody.
        let _ = timeout(LONGEST_GOOD_BYE, self.task).await;
    }
}

impl Deref for PostgresConnection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for PostgresConnection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl fmt::Debug for PostgresConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConnection").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

const LONGEST_GOOD_BYE: Duration = Duration::from_secs(1);
