//! OpenBao's HTTP interface, as its administrator uses it.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::error::{Error, Result, chain};

/// How long unsealing may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// Asks one server, as root once that is known.
#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    /// The server's name in errors.
    server: &'static str,
    address: String,
    token: String,
}

impl Api {
    pub(super) fn new(server: &'static str, address: String) -> Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST)
            // The server is stopped and killed under us; a connection of before would fail the next request.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Error::Unanswered { request: address.clone(), reason: chain(&error) })?;
        Ok(Self { client, server, address, token: String::new() })
    }

    pub(super) fn log_in(&mut self, token: String) {
        self.token = token;
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The status that a path answers with; `None` without an answer.
    pub(super) async fn status(&self, path: &str) -> Option<u16> {
        let answer = self.client.get(format!("{}/v1/{path}", self.address)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    pub(super) async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        self.send(method, path, body, None).await
    }

    /// Asks for an answer that is kept on the server, for whoever has the token that is answered instead.
    pub(super) async fn request_wrapped(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        lasts: Duration,
    ) -> Result<Value> {
        self.send(method, path, body, Some(lasts)).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        wrapped_for: Option<Duration>,
    ) -> Result<Value> {
        let request = format!("{method} {path}");
        let unanswered =
            |reason: String| Error::Unanswered { request: format!("{}: {request}", self.server), reason };
        let verb = Method::from_bytes(method.as_bytes()).map_err(|error| unanswered(error.to_string()))?;
        let mut builder = self.client.request(verb, format!("{}/v1/{path}", self.address));
        if !self.token.is_empty() {
            builder = builder.header("X-Vault-Token", &self.token);
        }
        if let Some(lasts) = wrapped_for {
            builder = builder.header("X-Vault-Wrap-TTL", lasts.as_secs());
        }
        if let Some(body) = body {
            builder = builder.json(&body);
        }
        let answer = builder.send().await.map_err(|error| unanswered(chain(&error)))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| unanswered(chain(&error)))?;
        if !status.is_success() {
            return Err(Error::Answer {
                server: self.server,
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

    pub(super) async fn write(&self, path: &str, body: Value) -> Result<()> {
        self.request("POST", path, Some(body)).await.map(drop)
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("address", &self.address).finish_non_exhaustive()
    }
}
