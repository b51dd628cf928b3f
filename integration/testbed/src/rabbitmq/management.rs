//! RabbitMQ's management interface, as its administrator uses it.

use reqwest::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::{error::Result, http};

/// Asks one server as one user.
#[derive(Clone, Debug)]
pub(super) struct Management {
    client: Client,
    address: String,
    user: &'static str,
    password: SecretString,
}

impl Management {
    pub(super) fn new(port: u16, user: &'static str, password: SecretString) -> Result<Self> {
        let address = format!("http://127.0.0.1:{port}/api");
        let client = http::client(&address)?;
        Ok(Self { client, address, user, password })
    }

    pub(super) async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        http::ask((&self.client, "RabbitMQ", &self.address), method, path, body, |request| {
            request.basic_auth(self.user, Some(self.password.expose_secret()))
        })
        .await
    }
}
