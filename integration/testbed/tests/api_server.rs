//! The imitation of an API server says what a real one was seen to say, and OpenBao answers what it was seen to answer.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{client, eventually, lasting, let_pass, log_in, log_in_as, log_in_with, start_with};
use leasehold_testbed::{Claims, Config, Testbed};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::Instant;

/// For so long an API server remembers that a token was good.
const REMEMBERED: Duration = Duration::from_secs(10);

async fn start() -> Testbed {
    let hour = Duration::from_secs(3600);
    start_with(Config { token_max_ttl: hour, ..lasting() }).await
}

/// The status of an answer of OpenBao's, and its one error.
async fn told(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_default();
    (status, body["errors"][0].as_str().unwrap_or_default().to_owned())
}

fn denied() -> (u16, String) {
    (403, "permission denied".into())
}

async fn renew(testbed: &Testbed, auth: &Value) -> (u16, String) {
    let url = format!("{}/v1/auth/token/renew-self", testbed.openbao().address());
    let request = client().post(url).header("X-Vault-Token", auth["client_token"].as_str().unwrap());
    told(request.send().await.unwrap()).await
}

/// Asks for a review as whoever has this token.
async fn review(testbed: &Testbed, reviewer: Option<&str>, token: &str) -> Response {
    let authority = std::fs::read(&testbed.openbao().certificates().authority).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
    let url = format!("{}/apis/authentication.k8s.io/v1/tokenreviews", testbed.api_server().address());
    let mut request = client.post(url).json(&json!({ "spec": { "token": token, "audiences": ["openbao"] } }));
    if let Some(reviewer) = reviewer {
        request = request.bearer_auth(reviewer);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn who_may_not_ask_is_told_so() {
    let testbed = start().await;
    let token = |claims: Claims| testbed.service_account().token(&claims).unwrap();
    let asked_for = token(Claims::default());
    let reviewer = token(Claims::reviewer());
    let answer = review(&testbed, Some(&reviewer), &asked_for).await;
    assert_eq!(answer.status(), 201);
    let body: Value = answer.json().await.unwrap();
    let user = &body["status"]["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:pipeline");
    let credential = user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap();
    assert!(credential.starts_with("JTI="), "{credential}");

    let other = Claims { audience: Claims::reviewer().audience, ..Claims::default() };
    let expired = Claims { expires_in: None, ..Claims::reviewer() };
    let in_words = |user: &str| {
        format!(
            "tokenreviews.authentication.k8s.io is forbidden: User \"{user}\" cannot create resource \
             \"tokenreviews\" in API group \"authentication.k8s.io\" at the cluster scope"
        )
    };
    for (reviewer, code, reason, message) in [
        (Some(token(other)), 403, "Forbidden", in_words("system:serviceaccount:default:pipeline")),
        (None, 403, "Forbidden", in_words("system:anonymous")),
        (Some(token(expired)), 401, "Unauthorized", "Unauthorized".to_owned()),
        (Some("garbage".to_owned()), 401, "Unauthorized", "Unauthorized".to_owned()),
    ] {
        let answer = review(&testbed, reviewer.as_deref(), &asked_for).await;
        assert_eq!(answer.status(), code);
        let body: Value = answer.json().await.unwrap();
        assert_eq!((&body["kind"], &body["code"]), (&json!("Status"), &json!(code)));
        assert_eq!((&body["reason"], &body["message"]), (&json!(reason), &json!(message)));
    }
    testbed.api_server().allow_reviews(false);
    assert_eq!(review(&testbed, Some(&reviewer), &asked_for).await.status(), 403);
}

#[tokio::test]
async fn every_trouble_of_the_api_server_is_the_same_to_who_logs_in() {
    let testbed = start().await;
    let api = testbed.api_server();
    let log_in_now = || async { log_in_as(&testbed, &Claims::default()).await };
    let good = || async { assert_eq!(log_in_now().await.status(), 200) };
    good().await;
    let before = api.reviews();
    good().await;
    assert_eq!(api.reviews(), before + 1);

    api.slow_down(Duration::from_secs(2));
    let asked = Instant::now();
    good().await;
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
    api.heal();

    for (status, retry_after) in [(429, Some(1)), (500, None), (503, None)] {
        api.refuse(status, retry_after);
        let answer = review(&testbed, None, "any").await;
        assert_eq!(answer.status(), status);
        let header = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header, retry_after.map(|seconds| seconds.to_string()));
        assert_eq!(told(log_in_now().await).await, denied(), "{status}");
    }
    api.heal();
    good().await;

    api.stop();
    assert_eq!(told(log_in_now().await).await, denied(), "down");
    api.start_again().await.unwrap();
    good().await;

    api.allow_reviews(false);
    assert_eq!(told(log_in_now().await).await, denied(), "without the right");
    api.allow_reviews(true);
    good().await;

    testbed.review_as(&Claims { expires_in: None, ..Claims::reviewer() }).await.unwrap();
    assert_eq!(told(log_in_now().await).await, denied(), "an expired reviewer");
    testbed.review_as(&Claims::reviewer()).await.unwrap();
    good().await;
}

#[tokio::test]
async fn a_deleted_account_is_remembered_for_ten_seconds_and_its_token_is_renewed_no_more() {
    let testbed = start().await;
    let (api, account) = (testbed.api_server(), testbed.service_account());
    let [seen, unseen] = [(); 2].map(|()| account.token(&Claims::default()).unwrap());
    let auth = log_in(&testbed).await;
    let reviewed = Instant::now();
    assert_eq!(log_in_with(&testbed, &seen).await.status(), 200);
    api.delete_account("default", "pipeline");
    assert!(account.rotate().unwrap_err().to_string().contains("serviceaccounts \"pipeline\" not found"));
    assert_eq!(told(log_in_with(&testbed, &unseen).await).await, denied());
    if reviewed.elapsed() < REMEMBERED - Duration::from_secs(1) {
        assert_eq!(log_in_with(&testbed, &seen).await.status(), 200, "after {:?}", reviewed.elapsed());
    }
    eventually("it is forgotten", || async { told(log_in_with(&testbed, &seen).await).await == denied() })
        .await;
    assert!(reviewed.elapsed() >= REMEMBERED - Duration::from_secs(1), "{:?}", reviewed.elapsed());
    let (status, error) = renew(&testbed, &auth).await;
    assert_eq!(status, 403);
    let words = "failed to renew entry: failed to validate token and secret still exist for \"pipeline\" during \
                 renewal: permission denied";
    assert!(error.contains(words), "{error}");

    api.create_account("default", "pipeline");
    assert_eq!(told(log_in_with(&testbed, &seen).await).await, denied(), "it was another one's");
    account.rotate().unwrap();
    log_in(&testbed).await;
}

#[tokio::test]
async fn a_deleted_pod_takes_its_tokens_with_it_and_the_next_one_has_its_own() {
    let testbed = start().await;
    let (api, account) = (testbed.api_server(), testbed.service_account());
    let [before, unseen] = [(); 2].map(|()| account.token(&Claims::default()).unwrap());
    assert_eq!(log_in_with(&testbed, &before).await.status(), 200);
    api.delete_pod_of("default", "pipeline");
    assert_eq!(told(log_in_with(&testbed, &unseen).await).await, denied());
    let reviewer = account.token(&Claims::reviewer()).unwrap();
    let body: Value = review(&testbed, Some(&reviewer), &unseen).await.json().await.unwrap();
    assert_eq!(
        body["status"],
        json!({ "user": {}, "error": "[invalid bearer token, service account token has been invalidated]" })
    );
    api.create_pod_of("default", "pipeline");
    assert_eq!(told(log_in_with(&testbed, &unseen).await).await, denied());
    account.rotate().unwrap();
    log_in(&testbed).await;
}

/// Both of them forgive a minute.
#[tokio::test]
async fn a_jwt_that_expired_a_moment_ago_logs_in() {
    let testbed = start().await;
    let claims = Claims { expires_in: Some(Duration::ZERO), ..Claims::default() };
    let jwt = testbed.service_account().token(&claims).unwrap();
    let_pass(Duration::from_secs(2)).await;
    assert_eq!(log_in_with(&testbed, &jwt).await.status(), 200);
    let expired = Claims { expires_in: None, ..Claims::default() };
    let (status, error) = told(log_in_as(&testbed, &expired).await).await;
    assert_eq!((status, error.as_str()), (403, "invalid expiration time (exp) claim: token is expired"));
}
