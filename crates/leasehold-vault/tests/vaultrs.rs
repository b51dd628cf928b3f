//! The way out to vaultrs.
#![cfg(feature = "vaultrs")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use leasehold_core::{
    ErrorKind, Grant, Issued, Lease, Token,
    clock::{Clock, SystemClock},
    publish::{self, Channel},
};
use serde_json::json;
use support::*;
use wiremock::ResponseTemplate;

fn channel(value: &str) -> Channel<Token> {
    let mut channel = publish::channel("token", Arc::new(SystemClock));
    let grant = Grant::new(Token::new(value.to_owned()), Lease::endless());
    channel.publisher.publish(grant, SystemClock.now());
    channel
}

fn issued(value: &str) -> Arc<Issued<Token>> {
    channel(value).current.get().unwrap()
}

#[tokio::test]
async fn a_vaultrs_client_sends_what_ours_would() {
    let server = always(envelope(json!({"data": {"x": "y"}, "lease_id": "", "lease_duration": 0, "renewable": false, "request_id": ""}))).await;
    let ours = builder(&server).namespace("team").build().unwrap();
    let client = ours.vaultrs(issued(TOKEN)).unwrap();
    let _: serde_json::Value = vaultrs::kv1::get(&*client, "secret", "a").await.unwrap();
    let request = &requests(&server).await[0];
    assert_eq!(request.url.path(), "/v1/secret/a");
    assert_eq!(request.headers["x-vault-token"], TOKEN);
    assert_eq!(request.headers["x-vault-namespace"], "team");
}

#[tokio::test]
async fn it_follows_no_redirect() {
    let stranger = always(envelope(json!({}))).await;
    let to = format!("{}/v1/secret/a", stranger.uri());
    let server = always(ResponseTemplate::new(307).insert_header("location", to.as_str())).await;
    let client = client(&server).vaultrs(issued(TOKEN)).unwrap();
    assert!(vaultrs::kv1::get::<serde_json::Value>(&*client, "secret", "a").await.is_err());
    assert!(requests(&stranger).await.is_empty());
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_an_error() {
    let server = always(envelope(json!({}))).await;
    let error = client(&server).vaultrs(issued("x\n")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn its_token_is_in_use_while_it_is_held_and_is_not_shown() {
    let server = always(envelope(json!({}))).await;
    let mut tokens = channel(TOKEN);
    let vaultrs = client(&server).vaultrs(tokens.current.get().unwrap()).unwrap();
    assert!(!format!("{vaultrs:?}").contains(TOKEN));
    let grant = Grant::new(Token::new("another".to_owned()), Lease::endless());
    tokens.publisher.publish(grant, SystemClock.now());
    assert!(tokens.farewells.try_recv().is_none(), "it is a user");
    drop(vaultrs);
    assert!(tokens.farewells.try_recv().is_some(), "the last one");
}
