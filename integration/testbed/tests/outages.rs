//! Servers stop, crash and come back.

mod common;

use std::time::Duration;

use common::{client, connect, credentials, log_in, start};
use leasehold_testbed::Config;
use tokio::time::timeout;

async fn health(testbed: &leasehold_testbed::Testbed) -> Option<u16> {
    let request = client().get(format!("{}/v1/sys/health", testbed.openbao().address()));
    let answer = timeout(Duration::from_millis(500), request.send()).await.ok()?;
    Some(answer.ok()?.status().as_u16())
}

#[tokio::test]
async fn openbao_goes_and_comes_back() {
    let testbed = common::start_with(Config {
        lease_ttl: Duration::from_secs(60),
        lease_max_ttl: Duration::from_secs(60),
        token_ttl: Duration::from_secs(60),
        token_max_ttl: Duration::from_secs(60),
        ..Config::default()
    })
    .await;
    let openbao = testbed.openbao();
    let auth = log_in(&testbed).await;
    let credentials = credentials(&testbed, auth["client_token"].as_str().unwrap()).await;
    let lease = [credentials["lease_id"].as_str().unwrap()];

    openbao.pause().await.unwrap();
    assert_eq!(health(&testbed).await, None);
    openbao.resume().await.unwrap();
    assert_eq!(health(&testbed).await, Some(200));

    openbao.seal().await.unwrap();
    assert_eq!(health(&testbed).await, Some(503));
    openbao.unseal().await.unwrap();
    assert_eq!(health(&testbed).await, Some(200));

    openbao.kill().await.unwrap();
    assert_eq!(health(&testbed).await, None);
    openbao.start_again().await.unwrap();
    assert_eq!(openbao.leases().await.unwrap(), lease);

    openbao.stop().await.unwrap();
    assert_eq!(health(&testbed).await, None);
    openbao.start_again().await.unwrap();
    assert_eq!(openbao.leases().await.unwrap(), lease);
    log_in(&testbed).await;
    connect(&testbed, &credentials).await.unwrap();
}

#[tokio::test]
async fn postgresql_goes_and_comes_back() {
    let testbed = start().await;
    let postgres = testbed.postgres();
    let auth = log_in(&testbed).await;
    let token = auth["client_token"].as_str().unwrap();
    let session = connect(&testbed, &credentials(&testbed, token).await).await.unwrap();

    postgres.pause().await.unwrap();
    let query = session.simple_query("SELECT count(*) FROM measurements");
    tokio::pin!(query);
    assert!(timeout(Duration::from_millis(300), &mut query).await.is_err());
    postgres.resume().await.unwrap();
    query.await.unwrap();

    postgres.kill().await.unwrap();
    assert!(session.simple_query("SELECT 1").await.is_err());
    postgres.start_again().await.unwrap();
    let session = connect(&testbed, &credentials(&testbed, token).await).await.unwrap();

    postgres.stop().await.unwrap();
    assert!(session.simple_query("SELECT 1").await.is_err());
    postgres.start_again().await.unwrap();
    assert_eq!(
        postgres.query("SELECT count(*) FROM measurements").await.unwrap(),
        [[Some("100".to_owned())]]
    );
}

/// PostgreSQL's own processes hold its shared memory until they are gone, and it refuses to start meanwhile.
#[tokio::test]
async fn a_killed_postgresql_starts_again_at_once_each_time() {
    let testbed = start().await;
    for _ in 0..5 {
        testbed.postgres().kill().await.unwrap();
        testbed.postgres().start_again().await.unwrap();
    }
}

#[tokio::test]
async fn errors_say_what_happened() {
    let testbed = start().await;
    let error = testbed.postgres().execute("SELECT nonsense").await.unwrap_err().to_string();
    assert!(error.contains("42703"), "{error}");
    let error = testbed.openbao().request("GET", "nowhere", None).await.unwrap_err().to_string();
    assert!(error.contains("404 to GET nowhere"), "{error}");
    testbed.openbao().kill().await.unwrap();
    let error = testbed.openbao().request("GET", "sys/mounts", None).await.unwrap_err().to_string();
    // Refused, or closed by whoever publishes a container's port.
    assert!(error.contains("no answer to OpenBao: GET sys/mounts: "), "{error}");
    std::fs::write(testbed.openbao().folder().join("openbao.json"), "{}").unwrap();
    let error = testbed.openbao().start_again().await.unwrap_err().to_string();
    assert!(error.contains("ended instead of starting") && error.contains("storage"), "{error}");
}
