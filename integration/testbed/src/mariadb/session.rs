//! A session with MariaDB.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::wire::{Address, Connection, Rows};
use crate::{backstage::Backstage, error::Result};

/// An open session with MariaDB; dropping it closes the connection.
#[derive(Debug)]
pub struct MariaDbSession {
    connection: Arc<Mutex<Connection>>,
    backstage: Backstage,
}

impl MariaDbSession {
    pub(super) async fn open(
        backstage: &Backstage,
        address: Address,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self> {
        let [user, password, database] = [user, password, database].map(str::to_owned);
        let request = format!("MariaDB: a login of {user}");
        let connect = async move { Connection::open(&address, &user, &password, &database).await };
        let connection = backstage.ask(request, connect).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), backstage: backstage.clone() })
    }

    /// Runs statements, and returns the rows of all of them as text.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`](crate::Error::Answer) with MariaDB's error number as the status; the session goes on. [`Error::Unanswered`](crate::Error::Unanswered) when the
    /// connection is lost.
    ///
    /// # Cancel safety
    ///
    /// A statement that nobody waits for any more is still run to its end.
    pub async fn query(&self, sql: &str) -> Result<Rows> {
        let (connection, sql) = (self.connection.clone(), sql.to_owned());
        let request = format!("MariaDB: {sql}");
        let query = async move { connection.lock().await.query(&sql).await };
        self.backstage.ask(request, query).await
    }
}
