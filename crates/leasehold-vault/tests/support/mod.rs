//! What the tests share. Not every test file needs all of it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file is a crate of its own; a helper of a test is a test"
)]

use std::{fmt::Debug, time::Duration};

use leasehold_core::{Error, Token};
use leasehold_vault::{Builder, Client};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

pub(crate) const TOKEN: &str = "hvs.CAESIJ-the-token-itself";

pub(crate) fn token() -> Token {
    Token::new(TOKEN.to_owned())
}

pub(crate) fn builder(server: &MockServer) -> Builder {
    Client::builder().address(server.uri()).timeout(Duration::from_secs(5))
}

pub(crate) fn client(server: &MockServer) -> Client {
    builder(server).build().unwrap()
}

pub(crate) fn refusal(status: u16, errors: &[&str]) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "errors": errors }))
}

pub(crate) fn envelope(fields: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(fields)
}

/// A server that gives one answer to every request.
pub(crate) async fn always(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any()).respond_with(answer).mount(&server).await;
    server
}

pub(crate) async fn on(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(server).await;
}

pub(crate) async fn requests(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.unwrap()
}

/// Everything that an error shows, its sources included.
pub(crate) fn shown(error: &Error) -> String {
    assert!(std::error::Error::source(error).is_none(), "an error of ours has no source");
    format!("{error} {error:?} {error:#?}")
}

pub(crate) fn assert_hidden(shown: &dyn Debug, secrets: &[&str]) {
    let text = format!("{shown:?} {shown:#?}");
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
    }
}
