//! The database users that OpenBao makes are real.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{connect, credentials, eventually, log_in, start, start_with};
use leasehold_testbed::Config;
use serde_json::{Value, json};
use tokio_postgres::{Client, error::SqlState};

async fn code(client: &Client, sql: &str) -> SqlState {
    client.simple_query(sql).await.unwrap_err().code().unwrap().clone()
}

async fn update(testbed: &leasehold_testbed::Testbed, token: &Value, path: &str, lease: &Value) -> u16 {
    let url = format!("{}/v1/{path}", testbed.openbao().address());
    let request = common::client().put(url).header("X-Vault-Token", token.as_str().unwrap());
    let body = json!({ "lease_id": lease, "sync": true });
    request.json(&body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn credentials_read_and_nothing_else() {
    let testbed = start().await;
    let auth = log_in(&testbed).await;
    let credentials = credentials(&testbed, auth["client_token"].as_str().unwrap()).await;
    assert_eq!(credentials["lease_duration"], 6);
    let user = credentials["data"]["username"].as_str().unwrap();
    assert_eq!(testbed.postgres().dynamic_users().await.unwrap(), [user]);
    assert_eq!(testbed.openbao().leases().await.unwrap(), [credentials["lease_id"].as_str().unwrap()]);

    let session = connect(&testbed, &credentials).await.unwrap();
    assert_eq!(testbed.postgres().sessions_of(user).await.unwrap(), 1);
    let rows = session.query("SELECT value FROM measurements", &[]).await.unwrap();
    assert_eq!(rows.len(), 100);
    assert_eq!(code(&session, "DELETE FROM measurements").await, SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(code(&session, "CREATE TABLE mine ()").await, SqlState::INSUFFICIENT_PRIVILEGE);
}

#[tokio::test]
async fn revocation_closes_no_session_and_takes_its_rights() {
    let testbed = start().await;
    let auth = log_in(&testbed).await;
    let credentials = credentials(&testbed, auth["client_token"].as_str().unwrap()).await;
    let session = connect(&testbed, &credentials).await.unwrap();
    session.simple_query("SELECT * FROM measurements").await.unwrap();
    testbed.openbao().revoke_prefix("database/creds/pipeline").await.unwrap();

    assert!(testbed.postgres().dynamic_users().await.unwrap().is_empty());
    assert!(testbed.openbao().leases().await.unwrap().is_empty());
    session.simple_query("SELECT 1").await.unwrap();
    assert_eq!(code(&session, "SELECT * FROM measurements").await, SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(code(&session, "SELECT session_user").await, SqlState::UNDEFINED_OBJECT);
    assert_eq!(testbed.postgres().orphaned_sessions().await.unwrap(), 1);
    let refused = connect(&testbed, &credentials).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn a_lease_renews_and_then_ends() {
    let testbed = start().await;
    let auth = log_in(&testbed).await;
    let credentials = credentials(&testbed, auth["client_token"].as_str().unwrap()).await;
    let user = credentials["data"]["username"].as_str().unwrap();
    let valid_until = async || {
        let sql = format!("SELECT rolvaliduntil FROM pg_roles WHERE rolname = '{user}'");
        testbed.postgres().query(&sql).await.unwrap()[0][0].clone()
    };
    let before = valid_until().await;
    eventually("a renewal moves the end", || async {
        update(&testbed, &auth["client_token"], "sys/leases/renew", &credentials["lease_id"]).await;
        valid_until().await > before
    })
    .await;
    eventually("the user is dropped", || async {
        testbed.postgres().dynamic_users().await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_policy_decides_on_revocation() {
    for (revoke_allowed, status) in [(true, 204), (false, 403)] {
        let lease_ttl = Duration::from_secs(60);
        let lease_max_ttl = Duration::from_secs(90);
        let token_ttl = Duration::from_secs(60);
        let token_max_ttl = Duration::from_secs(90);
        let config = Config {
            revoke_allowed,
            lease_ttl,
            lease_max_ttl,
            token_ttl,
            token_max_ttl,
            ..Config::default()
        };
        let testbed = start_with(config).await;
        let auth = log_in(&testbed).await;
        let credentials = credentials(&testbed, auth["client_token"].as_str().unwrap()).await;
        let token = &auth["client_token"];
        assert_eq!(update(&testbed, token, "sys/leases/lookup", &credentials["lease_id"]).await, 200);
        assert_eq!(update(&testbed, token, "sys/leases/revoke", &credentials["lease_id"]).await, status);
        assert_eq!(testbed.openbao().leases().await.unwrap().is_empty(), revoke_allowed);
        assert_eq!(update(&testbed, token, "auth/token/revoke-self", &Value::Null).await, 204);
        let users = testbed.postgres().dynamic_users().await.unwrap();
        assert!(users.is_empty(), "{users:?}");
    }
}
