//! Redis beside PostgreSQL.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{credentials_of, lasting, log_in, refusal, start_with, user};
use leasehold_testbed::{Config, Redis, RedisSession, Testbed};
use serde_json::{Value, json};
use tokio::time::timeout;

async fn start() -> Testbed {
    start_with(Config { redis: true, ..lasting() }).await
}

async fn credentials(testbed: &Testbed) -> Value {
    let auth = log_in(testbed).await;
    let role = testbed.redis().unwrap().role();
    credentials_of(testbed, role, auth["client_token"].as_str().unwrap()).await
}

async fn connect(redis: &Redis, credentials: &Value) -> leasehold_testbed::Result<RedisSession> {
    let (user, password) = user(credentials);
    redis.log_in(user, password).await
}

#[tokio::test]
async fn credentials_read_and_nothing_else() {
    let testbed = start().await;
    let redis = testbed.redis().unwrap();
    let credentials = credentials(&testbed).await;
    let (user, _) = user(&credentials);
    assert_eq!(redis.dynamic_users().await.unwrap(), [user]);
    let lease = credentials["lease_id"].as_str().unwrap();
    assert_eq!(testbed.openbao().leases_of(redis.role()).await.unwrap(), [lease]);

    let session = connect(redis, &credentials).await.unwrap();
    assert_eq!(redis.sessions_of(user).await.unwrap(), 1);
    assert_eq!(session.command(&["PING"]).await.unwrap(), "PONG");
    assert_eq!(session.command(&["HLEN", "measurements"]).await.unwrap(), 100);
    assert_eq!(session.command(&["HGET", "measurements", "2"]).await.unwrap(), "0.2");
    assert_eq!(session.command(&["HGET", "measurements", "none"]).await.unwrap(), Value::Null);
    assert_eq!(session.command(&["HMGET", "measurements", "1", "0"]).await.unwrap(), json!(["0.1", null]));
    assert_eq!(refusal(session.command(&["DEL", "measurements"]).await), "NOPERM");
    assert_eq!(refusal(session.command(&["GET", "secrets"]).await), "NOPERM");
}

#[tokio::test]
async fn revocation_closes_sessions() {
    let testbed = start().await;
    let redis = testbed.redis().unwrap();
    let credentials = credentials(&testbed).await;
    let session = connect(redis, &credentials).await.unwrap();
    testbed.openbao().revoke_prefix("database/creds/pipeline-redis").await.unwrap();

    assert!(redis.dynamic_users().await.unwrap().is_empty());
    assert_eq!(redis.sessions_of(user(&credentials).0).await.unwrap(), 0);
    assert!(session.command(&["PING"]).await.is_err());
    assert_eq!(refusal(connect(redis, &credentials).await), "WRONGPASS");
}

#[tokio::test]
async fn nobody_comes_in_without_a_password() {
    let testbed = start().await;
    let redis = testbed.redis().unwrap();
    for user in ["default", "vault_admin"] {
        assert_eq!(refusal(redis.log_in(user, "").await), "WRONGPASS", "{user}");
    }
}

#[tokio::test]
async fn it_goes_and_comes_back_without_its_users() {
    let testbed = start().await;
    let redis = testbed.redis().unwrap();
    let before = credentials(&testbed).await;
    let session = connect(redis, &before).await.unwrap();

    redis.pause().await.unwrap();
    assert!(timeout(Duration::from_millis(300), session.command(&["PING"])).await.is_err());
    redis.resume().await.unwrap();
    assert_eq!(session.command(&["PING"]).await.unwrap(), "PONG");

    redis.kill().await.unwrap();
    assert!(session.command(&["PING"]).await.is_err());
    redis.start_again().await.unwrap();
    assert_eq!(redis.command(&["HLEN", "measurements"]).await.unwrap(), 100);
    // OpenBao does not save the list: the lease lives, and its user is gone.
    assert_eq!(refusal(connect(redis, &before).await), "WRONGPASS");
    assert_eq!(testbed.openbao().leases_of(redis.role()).await.unwrap().len(), 1);
    // OpenBao's first request may find the connection of before, and fail.
    common::eventually("OpenBao finds the new server", || async {
        testbed.openbao().revoke_prefix("database/creds/pipeline-redis").await.is_ok()
    })
    .await;

    redis.stop().await.unwrap();
    let error = testbed.openbao().request("GET", "database/creds/pipeline-redis", None).await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    redis.start_again().await.unwrap();
    assert_eq!(redis.command(&["HLEN", "measurements"]).await.unwrap(), 100);
}
