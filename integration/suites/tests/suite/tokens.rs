//! Tokens that are not simply logged in for, and service accounts that change on disk.

use std::time::Duration;

use leasehold_auth::GivenToken;
use leasehold_core::{ErrorKind, Provider as _};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_suites::{Service, kubernetes, let_pass, nothing_left, vault, wait_until};
use leasehold_testbed::{Config, Product, Testbed, TokenType};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_given_token_is_renewed_and_survives_the_shut_down() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let recorder = testbed.recorder().unwrap();
    let body = json!({"policies": ["pipeline"], "ttl": "4s", "explicit_max_ttl": "120s", "no_parent": true});
    let answer = testbed.openbao().request("POST", "auth/token/create", Some(body)).await.unwrap();
    let given = answer["auth"]["client_token"].as_str().unwrap().to_owned();
    let vault = vault(&recorder).unwrap();
    let login = Box::new(GivenToken::new(vault.clone(), format!("{given}\n")));
    let service = Service::start_with(testbed, recorder, vault, login).await.unwrap();
    let load = service.load(50);
    wait_until("renewed three times", Duration::from_secs(20), || async {
        service.recorder.count("PUT", "/v1/auth/token/renew-self")
            + service.recorder.count("POST", "/v1/auth/token/renew-self")
            >= 3
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    service.account("a given token", &measured, 3.0);
    service.pool.close().await;
    service.login.shutdown().await.unwrap();
    service.token.shutdown().await.unwrap();
    assert_eq!(service.testbed.openbao().tokens().await.unwrap().len(), 1, "it was not ours to revoke");
    assert!(!format!("{:?}", service.recorder.requests()).contains(&given));
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_tokens_are_succeeded_in_time_without_needless_issues() {
    let config = Config {
        token_type: TokenType::Batch,
        token_ttl: Duration::from_secs(12),
        token_max_ttl: Duration::from_secs(12),
        lease_ttl: Duration::from_secs(60),
        lease_max_ttl: Duration::from_secs(120),
        ..Config::default()
    };
    let service = Service::start(config).await.unwrap();
    let load = service.load(50);
    wait_until("three tokens", Duration::from_secs(40), || async {
        service.token.current().get().unwrap().generation().number() >= 3
            && service.login.current().get().unwrap().generation().number() >= 3
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    service.account("batch tokens", &measured, 3.0);
    let issues = service.recorder.count("GET", "/v1/database/creds/");
    let logins = service.recorder.count("POST", "/v1/auth/kubernetes/login");
    assert!(issues <= logins, "{issues} issues under {logins} tokens");
    service.pool.close().await;
    service.login.shutdown().await.unwrap();
    service.token.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_jwt_is_used_also_after_it_was_missing_for_a_while() {
    let config = Config {
        token_ttl: Duration::from_secs(4),
        token_max_ttl: Duration::from_secs(8),
        ..Config::default()
    };
    let service = Service::start(config).await.unwrap();
    let load = service.load(50);
    let account = service.testbed.service_account();
    // As when the kubelet swaps the projected volume, only longer.
    account.remove().unwrap();
    let generation = service.token.current().get().unwrap().generation();
    wait_until("a login that fails for want of the file", Duration::from_secs(20), || async {
        matches!(service.token.health().status, leasehold_core::Status::Degraded { .. })
    })
    .await
    .unwrap();
    account.rotate().unwrap();
    wait_until("logged in again", Duration::from_secs(10), || async {
        service.token.current().get().unwrap().generation() > generation
    })
    .await
    .unwrap();
    let_pass(Duration::from_secs(2)).await;
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    service.account("a JWT that was missing", &measured, 3.0);
    let testbed = service.stop().await.unwrap();
    nothing_left(&testbed).await.unwrap();
}

/// Where the two servers differ for a client: Vault says in the 403 itself that the token is dead, and OpenBao
/// answers as for a token whose policy does not reach, so it has to be asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_is_told_at_the_price_of_what_the_server_leaves_unsaid() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let recorder = testbed.recorder().unwrap();
    let vault = vault(&recorder).unwrap();
    let token = Keeper::start(kubernetes(&testbed, &vault)).await.unwrap();
    let role = DatabaseRole::new(vault, token.current(), testbed.db_role());
    let accessor = token.current().get().unwrap().secret().accessor().unwrap().to_owned();
    let body = json!({ "accessor": accessor });
    testbed.openbao().request("POST", "auth/token/revoke-accessor", Some(body)).await.unwrap();
    recorder.clear();
    let error = role.issue().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadToken, "{error}");
    let asked = match testbed.openbao().product() {
        Product::Vault => 0,
        _ => 1,
    };
    assert_eq!(recorder.count("GET", "/v1/auth/token/lookup-self"), asked, "{:#?}", recorder.requests());
}
