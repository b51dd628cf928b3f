//! A session with MariaDB or MySQL.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::wire::{Address, Connection, Rows};
use crate::{backstage::Backstage, error::Result};

/// An open session with MariaDB or MySQL; dropping it closes the connection.
#[derive(Debug)]
pub struct MariaDbSession {
    connection: Arc<Mutex<Connection>>,
    server: &'static str,
    backstage: Backstage,
}

impl MariaDbSession {
    pub(crate) async fn open(
        backstage: &Backstage,
        server: &'static str,
        address: Address,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self> {
        let [user, password, database] = [user, password, database].map(str::to_owned);
        let request = format!("{server}: a login of {user}");
        let connect = async move { Connection::open(server, &address, &user, &password, &database).await };
        let connection = backstage.ask(request, connect).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), server, backstage: backstage.clone() })
    }

    /// Runs statements, and returns the rows of all of them as text.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`](crate::Error::Answer) with the server's error number as the status; the session goes on. [`Error::Unanswered`](crate::Error::Unanswered) when the
    /// connection is lost.
    ///
    /// # Cancel safety
    ///
    /// A statement that nobody waits for any more is still run to its end.
    pub async fn query(&self, sql: &str) -> Result<Rows> {
        let (connection, sql) = (self.connection.clone(), sql.to_owned());
        let request = format!("{}: {sql}", self.server);
        let query = async move { connection.lock().await.query(&sql).await };
        self.backstage.ask(request, query).await
    }
}
