//! Asking the servers' HTTP interfaces, as their administrator.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::error::{Error, Result, chain};

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// A client of a server on loopback.
pub(crate) fn client(address: &str) -> Result<Client> {
    Client::builder()
        .no_proxy()
        .timeout(REQUEST)
        // The server is stopped and killed under us; a connection of before would fail the next request.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| Error::Unanswered { request: address.to_owned(), reason: chain(&error) })
}

/// Asks below `base`, with what `complete` adds; an empty answer is `Null`.
pub(crate) async fn ask(
    (client, server, base): (&Client, &'static str, &str),
    method: &str,
    path: &str,
    body: Option<Value>,
    complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> Result<Value> {
    let request = format!("{method} {path}");
    let unanswered = |reason: String| Error::Unanswered { request: format!("{server}: {request}"), reason };
    let verb = Method::from_bytes(method.as_bytes()).map_err(|error| unanswered(error.to_string()))?;
    let mut builder = complete(client.request(verb, format!("{base}/{path}")));
    if let Some(body) = body {
        builder = builder.json(&body);
    }
    let answer = builder.send().await.map_err(|error| unanswered(chain(&error)))?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| unanswered(chain(&error)))?;
    if !status.is_success() {
        let (status, body) = (status.as_u16().to_string(), String::from_utf8_lossy(&body).into_owned());
        return Err(Error::Answer { server, request, status, body });
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| unanswered(error.to_string()))
}
