//! OpenBao's HTTP interface, as its administrator uses it.

use std::time::Duration;

use serde_json::Value;

use crate::{error::Result, http};

/// How long unsealing may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

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
    pub(crate) fn new(server: &'static str, address: String) -> Result<Self> {
        let client = http::client(&address)?;
        Ok(Self { client, server, address, token: String::new() })
    }

    pub(super) fn log_in(&mut self, token: String) {
        self.token = token;
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The status that a path answers with; `None` without an answer.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
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
        let base = format!("{}/v1", self.address);
        http::ask((&self.client, self.server, &base), method, path, body, |mut request| {
            if !self.token.is_empty() {
                request = request.header("X-Vault-Token", &self.token);
            }
            match wrapped_for {
                Some(lasts) => request.header("X-Vault-Wrap-TTL", lasts.as_secs()),
                None => request,
            }
        })
        .await
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
