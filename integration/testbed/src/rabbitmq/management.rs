//! RabbitMQ's management interface, as its administrator uses it.

use std::time::Duration;

use reqwest::{Client, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::error::{Error, Result, chain};

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);

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
        let client = Client::builder()
            .no_proxy()
            .timeout(REQUEST)
            // The server is stopped and killed under us; a connection of before would fail the next request.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Error::Unanswered { request: address.clone(), reason: chain(&error) })?;
        Ok(Self { client, address, user, password })
    }

    pub(super) async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let request = format!("{method} {path}");
        let unanswered =
            |reason: String| Error::Unanswered { request: format!("RabbitMQ: {request}"), reason };
        let verb = Method::from_bytes(method.as_bytes()).map_err(|error| unanswered(error.to_string()))?;
        let mut builder = self.client.request(verb, format!("{}/{path}", self.address));
        builder = builder.basic_auth(self.user, Some(self.password.expose_secret()));
        if let Some(body) = body {
            builder = builder.json(&body);
        }
        let answer = builder.send().await.map_err(|error| unanswered(chain(&error)))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| unanswered(chain(&error)))?;
        if !status.is_success() {
            return Err(Error::Answer {
                server: "RabbitMQ",
                request,
                status: status.as_u16().to_string(),
                body: String::from_utf8_lossy(&body).into_owned(),
            });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| unanswered(error.to_string()))
    }
}
