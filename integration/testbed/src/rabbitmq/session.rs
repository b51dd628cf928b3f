//! A connection to RabbitMQ.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{VIRTUAL_HOST, wire::Connection};
use crate::{backstage::Backstage, error::Result};

/// An open connection to RabbitMQ; dropping it closes it.
#[derive(Debug)]
pub struct RabbitMqSession {
    connection: Arc<Mutex<Connection>>,
    backstage: Backstage,
}

impl RabbitMqSession {
    pub(super) async fn open(backstage: &Backstage, port: u16, user: &str, password: &str) -> Result<Self> {
        let (user, password) = (user.to_owned(), password.to_owned());
        let request = format!("RabbitMQ: a login of {user}");
        let connect = async move { Connection::open(port, &user, &password, VIRTUAL_HOST).await };
        let connection = backstage.ask(request, connect).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), backstage: backstage.clone() })
    }

    /// Declares a durable queue, which may be there already, and returns how many messages are in it.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`](crate::Error::Answer) with RabbitMQ's code as the status, such as `403`; the connection goes on unless it is `320`, with which
    /// the server closes it. [`Error::Unanswered`](crate::Error::Unanswered) when the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// A queue that nobody waits for any more is still declared.
    pub async fn declare(&self, queue: &str) -> Result<u32> {
        let (connection, queue) = (self.connection.clone(), queue.to_owned());
        let request = format!("RabbitMQ: declare {queue}");
        let declare = async move { connection.lock().await.declare(&queue).await };
        self.backstage.ask(request, declare).await
    }
}
