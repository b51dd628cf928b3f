//! The way out to vaultrs.
#![cfg(feature = "vaultrs")]

mod support;

use leasehold_core::{ErrorKind, Token};
use serde_json::json;
use support::*;
use wiremock::ResponseTemplate;

#[tokio::test]
async fn a_vaultrs_client_sends_what_ours_would() {
    let server = always(envelope(json!({"data": {"x": "y"}, "lease_id": "", "lease_duration": 0, "renewable": false, "request_id": ""}))).await;
    let ours = builder(&server).namespace("team").build().unwrap();
    let client = ours.vaultrs(&token()).unwrap();
    let _: serde_json::Value = vaultrs::kv1::get(&client, "secret", "a").await.unwrap();
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
    let client = client(&server).vaultrs(&token()).unwrap();
    assert!(vaultrs::kv1::get::<serde_json::Value>(&client, "secret", "a").await.is_err());
    assert!(requests(&stranger).await.is_empty());
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_an_error() {
    let server = always(envelope(json!({}))).await;
    let error = client(&server).vaultrs(&Token::new("x\n".to_owned())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
