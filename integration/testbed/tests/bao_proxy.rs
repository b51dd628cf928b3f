//! OpenBao's own proxy in front of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{client, lasting, log_in, start_with};
use leasehold_testbed::{Config, ProxySettings, Testbed};
use reqwest::Response;
use serde_json::Value;

async fn start(settings: ProxySettings) -> Testbed {
    start_with(Config { bao_proxy: Some(settings), ..lasting() }).await
}

/// Asks for credentials through the proxy; with no token, where there is none.
async fn ask(testbed: &Testbed, token: Option<&str>) -> Response {
    let address = testbed.bao_proxy().unwrap().address();
    let mut request = client().get(format!("{address}/v1/database/creds/{}", testbed.db_role()));
    if let Some(token) = token {
        request = request.header("X-Vault-Token", token);
    }
    request.send().await.unwrap()
}

/// Where an answer comes from, and the lease in it.
async fn told(answer: Response) -> (String, String) {
    assert_eq!(answer.status(), 200);
    let from = answer.headers()["x-cache"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    (from, body["lease_id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn without_a_cache_each_request_is_passed_on() {
    let testbed = start(ProxySettings::default()).await;
    assert_eq!(ask(&testbed, None).await.status(), 403, "it lends no token");
    let auth = log_in(&testbed).await;
    let token = auth["client_token"].as_str();
    let (from, first) = told(ask(&testbed, token).await).await;
    let (again_from, second) = told(ask(&testbed, token).await).await;
    assert_eq!((from.as_str(), again_from.as_str()), ("MISS", "MISS"));
    assert_ne!(first, second);
    assert_eq!(testbed.openbao().leases().await.unwrap().len(), 2);
}

/// The answers that a client takes for news are old.
#[tokio::test]
async fn with_a_cache_the_same_question_has_the_same_answer() {
    let testbed = start(ProxySettings::default().cache()).await;
    let auth = log_in(&testbed).await;
    let proxy = testbed.bao_proxy().unwrap();
    assert!(proxy.settings().cache && !proxy.settings().auto_auth);
    // The cache answers only for tokens that it has seen come.
    let token = auth["client_token"].as_str();
    let (_, first) = told(ask(&testbed, token).await).await;
    let url = format!("{}/v1/auth/{}/login", proxy.address(), testbed.kubernetes_mount());
    let jwt = std::fs::read_to_string(testbed.service_account().token_path()).unwrap();
    let login = serde_json::json!({ "role": testbed.role(), "jwt": jwt });
    let log_in = || async {
        let answer = client().post(&url).json(&login).send().await.unwrap();
        let from = answer.headers()["x-cache"].to_str().unwrap().to_owned();
        let body: Value = answer.json().await.unwrap();
        (from, body["auth"]["client_token"].as_str().unwrap().to_owned())
    };
    let ((miss, token), (hit, same)) = (log_in().await, log_in().await);
    assert_eq!((miss.as_str(), hit.as_str()), ("MISS", "HIT"));
    assert_eq!(token, same, "a second login is none");
    let (miss, second) = told(ask(&testbed, Some(&token)).await).await;
    assert_ne!(first, second);
    let answer = ask(&testbed, Some(&token)).await;
    assert!(answer.headers().contains_key("age"));
    let (hit, same) = told(answer).await;
    assert_eq!((miss.as_str(), hit.as_str()), ("MISS", "HIT"));
    assert_eq!(same, second, "a second lease is none");
}

#[tokio::test]
async fn with_a_login_of_its_own_nobody_needs_a_token() {
    let testbed = start(ProxySettings::default().auto_auth()).await;
    let (_, lease) = told(ask(&testbed, None).await).await;
    assert_eq!(testbed.openbao().leases().await.unwrap(), [lease]);
    assert_eq!(testbed.openbao().tokens().await.unwrap().len(), 1, "the proxy's own");
    let proxy = testbed.bao_proxy().unwrap();
    proxy.kill().await.unwrap();
    let url = format!("{}/v1/sys/health", proxy.address());
    assert!(client().get(&url).send().await.is_err());
    proxy.start_again().await.unwrap();
    assert_eq!(ask(&testbed, None).await.status(), 200);
    let variable = testbed.environment().into_iter().find(|(name, _)| name == "BAO_PROXY_ADDR");
    assert_eq!(variable.unwrap().1, proxy.address());
}
