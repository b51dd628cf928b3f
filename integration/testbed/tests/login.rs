//! The Kubernetes login is real but for the cluster.

mod common;

use std::{collections::HashSet, time::Duration};

use common::{client, log_in, log_in_as, log_in_with, start, start_with};
use leasehold_testbed::{Claims, Config, Tls, TokenType};
use serde_json::Value;

#[tokio::test]
async fn a_service_account_logs_in() {
    let testbed = start().await;
    let auth = log_in(&testbed).await;
    assert_eq!(auth["lease_duration"], 15);
    assert_eq!(auth["renewable"], true);
    assert_eq!(auth["token_type"], "service");
    assert_eq!(auth["metadata"]["service_account_name"], "pipeline");
    assert_eq!(testbed.openbao().tokens().await.unwrap(), [auth["accessor"].as_str().unwrap()]);
}

#[tokio::test]
async fn a_batch_token_is_asked_for() {
    let testbed = start_with(Config { token_type: TokenType::Batch, ..Config::default() }).await;
    let auth = log_in(&testbed).await;
    assert_eq!((&auth["token_type"], &auth["renewable"]), (&Value::from("batch"), &Value::from(false)));
    assert!(testbed.openbao().tokens().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_token_counts_its_uses() {
    let testbed = start_with(Config { token_num_uses: 2, ..Config::default() }).await;
    let auth = log_in(&testbed).await;
    let url = format!("{}/v1/auth/token/lookup-self", testbed.openbao().address());
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let request = client().get(&url).header("X-Vault-Token", auth["client_token"].as_str().unwrap());
        statuses.push(request.send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 403]);
}

#[tokio::test]
async fn what_a_cluster_would_refuse_is_refused() {
    let testbed = start().await;
    let claims = Claims::default();
    let expired = Claims { expires_in: None, ..claims.clone() };
    // An API server forgives a minute.
    let early = Claims { starts_in: Duration::from_secs(90), ..claims.clone() };
    let elsewhere = Claims { audience: "somebody-else".into(), ..claims.clone() };
    let forged = Claims { forged: true, ..claims.clone() };
    let other_name = Claims { name: "other".into(), ..claims.clone() };
    let other_namespace = Claims { namespace: "kube-system".into(), ..claims.clone() };
    for refused in [expired, early, elsewhere, forged, other_name, other_namespace] {
        let answer = log_in_as(&testbed, &refused).await;
        let status = answer.status();
        let body = answer.text().await.unwrap();
        eprintln!("{status} {body} to {refused:?}");
        assert!(matches!(status.as_u16(), 400 | 403), "{status} {body} to {refused:?}");
    }
    assert_eq!(log_in_as(&testbed, &claims).await.status(), 200);
}

#[tokio::test]
async fn a_projected_token_rotates() {
    let testbed = start().await;
    let account = testbed.service_account();
    let read = || std::fs::read_to_string(account.token_path());
    let mut seen = HashSet::from([read().unwrap()]);
    for _ in 0..3 {
        account.rotate().unwrap();
        assert!(seen.insert(read().unwrap()));
        log_in(&testbed).await;
    }

    let volume = account.token_path().parent().unwrap().to_owned();
    assert_eq!(std::fs::read_link(account.token_path()).unwrap().to_str(), Some("..data/token"));
    let entries: Vec<_> =
        std::fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries.len(), 3, "{entries:?}");

    account.remove().unwrap();
    assert_eq!(read().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    account.write_raw("garbage\n").unwrap();
    assert_eq!(read().unwrap(), "garbage\n");
    assert!(log_in_with(&testbed, &read().unwrap()).await.status().is_client_error());
    account.rotate_with(&Claims { expires_in: None, ..Claims::default() }).unwrap();
    assert!(log_in_with(&testbed, &read().unwrap()).await.status().is_client_error());
    account.rotate().unwrap();
    log_in(&testbed).await;
}

#[tokio::test]
async fn tls_is_served_when_asked_for() {
    let testbed = start_with(Config { tls: Tls::Mutual, ..Config::default() }).await;
    let openbao = testbed.openbao();
    let certificates = openbao.certificates();
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let url = format!("{}/v1/sys/seal-status", openbao.tls_address().unwrap());
    let builder = || {
        let authority = reqwest::Certificate::from_pem(&read(&certificates.authority)).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([authority])
    };
    assert!(builder().build().unwrap().get(&url).send().await.is_err());
    let identity = [read(&certificates.client), read(&certificates.client_key)].concat();
    let identity = reqwest::Identity::from_pem(&identity).unwrap();
    let answer = builder().identity(identity).build().unwrap().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}
