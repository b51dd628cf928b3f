//! A session with Redis.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;

use super::wire::Connection;
use crate::{backstage::Backstage, error::Result};

/// An open session with Redis; dropping it closes the connection.
#[derive(Debug)]
pub struct RedisSession {
    connection: Arc<Mutex<Connection>>,
    backstage: Backstage,
}

impl RedisSession {
    pub(super) async fn open(backstage: &Backstage, port: u16, user: &str, password: &str) -> Result<Self> {
        let (user, password) = (user.to_owned(), password.to_owned());
        let request = format!("Redis: a login of {user}");
        let connect = async move { Connection::open(port, &user, &password).await };
        let connection = backstage.ask(request, connect).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), backstage: backstage.clone() })
    }

    /// Gives a command: text is a string, nothing is `Null`.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`](crate::Error::Answer) with the first word of Redis's answer as the status, such as `NOPERM`; the session goes on.
    /// [`Error::Unanswered`](crate::Error::Unanswered) when the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// A command that nobody waits for any more is still run to its end.
    pub async fn command(&self, words: &[&str]) -> Result<Value> {
        let connection = self.connection.clone();
        let request = format!("Redis: {}", words.first().copied().unwrap_or_default());
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let command = async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            connection.lock().await.command(&words).await
        };
        self.backstage.ask(request, command).await
    }
}
