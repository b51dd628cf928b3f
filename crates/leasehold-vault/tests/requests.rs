//! What goes over the wire, and what is read from it.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod support;

use std::time::Duration;

use leasehold_core::{Body, ErrorKind, ExposeSecret, Lease, SecretString, Token, TokenKind, Vault};
use leasehold_vault::Client;
use serde_json::{Value, json};
use support::*;
use wiremock::ResponseTemplate;

#[tokio::test]
async fn a_lease_is_kept() {
    // vaultrs's typed reads drop it (vaultrs #144).
    let server = always(envelope(json!({
        "request_id": "r", "lease_id": "database/creds/app/x", "lease_duration": 30, "renewable": true,
        "data": {"username": "v-app", "password": "hunter2"}, "wrap_info": null, "warnings": ["capped"], "auth": null,
    })))
    .await;
    let answer = client(&server).read(&token(), "database/creds/app").await.unwrap();
    assert_eq!(answer.lease(), &Lease::new("database/creds/app/x", Duration::from_secs(30), true));
    assert_eq!(answer.data().text("username").unwrap(), "v-app");
    assert_eq!(answer.data().secret("password").unwrap().expose_secret(), "hunter2");
    assert_eq!(answer.warnings(), ["capped"]);
    assert_hidden(&answer, &["hunter2"]);
}

#[tokio::test]
async fn a_read_is_a_get_with_token_and_namespace() {
    let server = always(envelope(json!({}))).await;
    let client = builder(&server).namespace("/teams/a/").build().unwrap();
    client.read(&token(), "/database/creds/app").await.unwrap();
    let request = &requests(&server).await[0];
    let header = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!((request.method.as_str(), request.url.path()), ("GET", "/v1/database/creds/app"));
    assert_eq!(header("x-vault-token").as_deref(), Some(TOKEN));
    assert_eq!(header("x-vault-namespace").as_deref(), Some("teams/a"));
    assert_eq!(header("x-vault-request").as_deref(), Some("true"));
    assert_eq!(header("content-type"), None);
    assert!(request.body.is_empty());
}

#[tokio::test]
async fn a_login_sends_the_body_and_no_token() {
    let server = always(envelope(json!({"auth": {
        "client_token": "hvs.new", "accessor": "acc", "lease_duration": 60, "renewable": true, "token_type": "service",
    }})))
    .await;
    let body = Body::new().text("role", "app").secret("jwt", &SecretString::from("eyJ.x.y".to_owned()));
    let answer = client(&server).login("auth/kubernetes/login", body).await.unwrap();
    let auth = answer.auth().unwrap();
    assert_eq!(auth.lease(), &Lease::new("", Duration::from_secs(60), true));
    assert_eq!(auth.token().value().expose_secret(), "hvs.new");
    assert!(auth.token().revocable());
    assert_hidden(&answer, &["hvs.new"]);

    let request = &requests(&server).await[0];
    assert_eq!((request.method.as_str(), request.url.path()), ("POST", "/v1/auth/kubernetes/login"));
    assert_eq!(request.body_json::<Value>().unwrap(), json!({"role": "app", "jwt": "eyJ.x.y"}));
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(
        !request.headers.contains_key("x-vault-token") && !request.headers.contains_key("x-vault-namespace")
    );
}

#[tokio::test]
async fn a_login_without_a_token_in_its_answer_is_refused() {
    for answer in [
        ResponseTemplate::new(204),
        envelope(json!({"auth": null, "data": {"client_token": "hunter2"}})),
        envelope(json!({"auth": {"client_token": "", "lease_duration": 0}})),
    ] {
        let server = always(answer).await;
        let error = client(&server).login("auth/jwt/login", Body::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unexpected);
        assert!(error.message().contains("auth/jwt/login") && !shown(&error).contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_login_that_wants_a_second_factor_is_to_be_configured_otherwise() {
    let auth = json!({"client_token": "", "lease_duration": 0, "mfa_requirement": {"x": "hunter2"}});
    let server = always(envelope(json!({ "auth": auth }))).await;
    let error = client(&server).login("auth/approle/login", Body::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error.message().starts_with("auth/approle/login: ") && error.message().contains("MFA"),
        "{error}"
    );
    assert!(!shown(&error).contains("hunter2"), "{error}");
}

#[tokio::test]
async fn root_and_batch_tokens_are_told_apart() {
    let auth = |fields: Value| async move {
        let server = always(envelope(json!({ "auth": fields }))).await;
        client(&server).login("auth/x/login", Body::new()).await.unwrap().auth().unwrap().clone()
    };
    let root = auth(json!({"client_token": "root", "lease_duration": 0, "token_type": "service"})).await;
    assert_eq!(root.lease(), &Lease::endless());
    let batch =
        auth(json!({"client_token": "b.x", "lease_duration": 9, "token_type": "batch", "accessor": ""}))
            .await;
    assert_eq!(batch.token().kind(), TokenKind::Batch);
    assert!(!batch.token().revocable());
}

#[tokio::test]
async fn renewals_say_how_much_was_granted() {
    let server = wiremock::MockServer::start().await;
    on(
        &server,
        "POST",
        "/v1/sys/leases/renew",
        envelope(json!({"lease_id": "l", "lease_duration": 7, "renewable": true, "data": null})),
    )
    .await;
    on(
        &server,
        "POST",
        "/v1/auth/token/renew-self",
        envelope(json!({"lease_duration": 0, "auth": {"client_token": TOKEN, "lease_duration": 9}})),
    )
    .await;
    let client = client(&server);
    let lease = client.renew_lease(&token(), "database/creds/app/x", Duration::from_secs(60)).await.unwrap();
    assert_eq!(lease.ttl, Duration::from_secs(7));
    let renewed = client.renew_token(&token(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(renewed.ttl, Duration::from_secs(9));
    let requests = requests(&server).await;
    assert_eq!(
        requests[0].body_json::<Value>().unwrap(),
        json!({"lease_id": "database/creds/app/x", "increment": 60})
    );
    assert_eq!(requests[1].body_json::<Value>().unwrap(), json!({"increment": 60}));
}

#[tokio::test]
async fn nothing_said_is_nothing_granted() {
    // Just before the end a renewal answers 200 with an empty body (Vault #1979).
    for answer in [ResponseTemplate::new(200), ResponseTemplate::new(204), envelope(json!({}))] {
        let server = always(answer).await;
        let client = client(&server);
        assert_eq!(
            client.renew_lease(&token(), "l", Duration::from_secs(60)).await.unwrap().ttl,
            Duration::ZERO
        );
        assert_eq!(client.renew_token(&token(), Duration::from_secs(60)).await.unwrap().ttl, Duration::ZERO);
        client.revoke_lease(&token(), "l").await.unwrap();
        client.revoke_token(&token()).await.unwrap();
        assert_eq!(client.lookup_token(&token()).await.unwrap().lease(), &Lease::endless());
    }
}

#[tokio::test]
async fn revocations_go_to_their_paths() {
    let server = always(ResponseTemplate::new(204)).await;
    let client = client(&server);
    client.revoke_lease(&token(), "l").await.unwrap();
    client.revoke_token(&token()).await.unwrap();
    let requests = requests(&server).await;
    assert_eq!(requests[0].url.path(), "/v1/sys/leases/revoke");
    assert_eq!(requests[0].body_json::<Value>().unwrap(), json!({"lease_id": "l"}));
    assert_eq!(requests[1].url.path(), "/v1/auth/token/revoke-self");
    assert_eq!(requests[1].body, b"{}");
}

#[tokio::test]
async fn odd_paths_arrive_as_they_were_meant() {
    let server = always(envelope(json!({}))).await;
    let client = client(&server);
    for (path, on_wire) in [
        ("database/creds/a b", "/v1/database/creds/a%20b"),
        ("kv/data/a?b#c", "/v1/kv/data/a%3Fb%23c"),
        ("kv/data/50%", "/v1/kv/data/50%25"),
        ("kv/data/%2e%2e", "/v1/kv/data/%252e%252e"),
        ("kv/data/ä\\|^[]{}`\"<>;:@&=+$,'~!*()", "/v1/kv/data/%C3%A4"),
    ] {
        client.read(&token(), path).await.unwrap();
        let seen = requests(&server).await.last().unwrap().url.clone();
        assert!(seen.path().starts_with(on_wire), "{path}: {seen}");
        assert_eq!((seen.query(), seen.fragment()), (None, None), "{path}");
        assert_eq!(seen.path().split('/').count(), path.split('/').count() + 2, "{seen}");
    }
    let before = requests(&server).await.len();
    for path in ["", "a//b", "../sys/seal", "database/creds/..", "a/./b", "a\r\nX-Evil: 1"] {
        let error = client.read(&token(), path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{path:?}");
    }
    assert_eq!(requests(&server).await.len(), before, "nothing was sent");
}

#[tokio::test]
async fn a_path_in_the_address_comes_before_the_version() {
    let server = always(envelope(json!({}))).await;
    let client = Client::builder().address(format!("{}/infra/vault/", server.uri())).build().unwrap();
    client.read(&token(), "kv/x").await.unwrap();
    assert_eq!(requests(&server).await[0].url.path(), "/infra/vault/v1/kv/x");
}

#[tokio::test]
async fn what_no_header_can_carry_is_an_error_and_no_panic() {
    // vaultrs's middleware unwraps the header's value.
    let server = always(envelope(json!({}))).await;
    for bad in ["hvs.hunter2\n", "hvs.hunter2\r\nX-Evil: 1", " hvs.hunter2", "hvs.hünter2", "\0hunter2"] {
        let error = client(&server).read(&Token::new(bad.to_owned()), "kv/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{bad:?}");
        assert!(!shown(&error).contains("nter2"), "{error}");
        let error = builder(&server).namespace(format!("{bad} x")).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{bad:?}");
    }
    assert!(requests(&server).await.is_empty());
}

#[tokio::test]
async fn one_client_serves_many() {
    let server = always(envelope(json!({}))).await;
    let client = client(&server);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.read(&token(), &format!("kv/{n}")).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(requests(&server).await.len(), 20);
}

#[test]
fn debug_tells_settings_and_no_secret() {
    let client = Client::builder()
        .address("https://vault.example:8200/")
        .namespace("team")
        .redirect_to("https://node-1.example:8200")
        .build()
        .unwrap();
    let text = format!("{client:?}");
    for part in ["https://vault.example:8200", "team", "10s", "node-1", "skip_verify: false"] {
        assert!(text.contains(part), "{text}");
    }
    let builder = Client::builder().address("https://u:hunter2@host").client_cert_pem("hunter2", "hunter2");
    assert_hidden(&builder, &["hunter2"]);
}

#[test]
fn a_bad_setting_is_an_error_and_no_panic() {
    let build = |address: &str| Client::builder().address(address).build().unwrap_err();
    for address in
        ["", "vault", "vault:8200", "ftp://x", "http://", "data:text/plain,hunter2", "https://u:hunter2@host"]
    {
        let error = build(address);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{address}");
        assert!(!shown(&error).contains("hunter2"));
    }
    let error = Client::builder().timeout(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let error = Client::builder().redirect_to("node-1").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
