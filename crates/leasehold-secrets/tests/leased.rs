//! What is lent by any engine.

mod common;

use std::time::Duration;

use common::{Scene, refusal};
use leasehold_core::{
    Body, Credentials, ErrorKind, ExposeSecret, Lease, Provider, Revoked, SecretString, Token,
};
use leasehold_secrets::{CertificateCredentials, KeyCredentials, Leased};
use serde_json::json;

fn lease() -> Lease {
    Lease::new("rabbitmq/creds/pipeline/1", Duration::from_secs(60), true)
}

#[tokio::test(start_paused = true)]
async fn credentials_of_any_engine_are_renewed_and_revoked() {
    let scene = Scene::new();
    let user = json!({ "username": "token-x", "password": "hunter2" });
    scene.vault.answers_with("rabbitmq/creds/pipeline", user, lease());
    scene.vault.answers_with("sys/leases/renew", json!({}), lease());
    scene.vault.answers("sys/leases/revoke", json!({}));
    let role = Leased::<Credentials>::read(scene.vault.clone(), scene.token(), "/rabbitmq/creds/pipeline");
    let grant = role.issue().await.unwrap();
    assert_eq!(grant.secret.username(), "token-x");
    assert_eq!(grant.secret.password().expose_secret(), "hunter2");
    let record = scene.record(grant);
    assert_eq!(role.renew(&record).await.unwrap().ttl, Duration::from_secs(60));
    assert_eq!(role.revoke(&record).await.unwrap(), Revoked::Done);
    assert_eq!(
        scene.vault.asked(),
        [
            "one rabbitmq/creds/pipeline null",
            r#"one sys/leases/renew {"increment":60,"lease_id":"rabbitmq/creds/pipeline/1"}"#,
            r#"one sys/leases/revoke {"lease_id":"rabbitmq/creds/pipeline/1"}"#,
        ]
    );
    assert_eq!(role.name(), "rabbitmq/creds/pipeline");
    assert_eq!(format!("{role:?}"), r#"Leased { path: "rabbitmq/creds/pipeline", .. }"#);
}

#[derive(Debug, serde::Deserialize)]
struct Signed {
    serial: u32,
    key: SecretString,
}

#[tokio::test(start_paused = true)]
async fn a_type_of_ones_own_is_asked_for_with_a_body() {
    let scene = Scene::new();
    scene.vault.answers_with("ssh/issue/pipeline", json!({ "serial": 7, "key": "hunter2" }), lease());
    let body = Body::new().text("ttl", "60s");
    let issue = Leased::<Signed>::write(scene.vault.clone(), scene.token(), "ssh/issue/pipeline", body);
    let grant = issue.issue().await.unwrap();
    assert_eq!(
        grant.lease.subject(),
        Some("rabbitmq/creds/pipeline/1"),
        "no user is known, so the lease names itself"
    );
    let Signed { serial, key } = grant.secret;
    assert_eq!((serial, key.expose_secret()), (7, "hunter2"));
    assert_eq!(scene.vault.asked(), [r#"one ssh/issue/pipeline {"ttl":"60s"}"#]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_leaves_no_lease_and_tells_no_value() {
    let scene = Scene::new();
    let path = "ssh/issue/pipeline";
    scene.vault.answers_with(path, json!({ "serial": "hunter2", "key": "hunter2" }), lease());
    let read = Leased::<Signed>::read(scene.vault.clone(), scene.token(), path);
    let error = refusal(read.issue().await, &["hunter2"]);
    assert!(error.message().contains("`serial` is not u32"), "{error}");
    assert!(scene.vault.asked()[1].contains("sys/leases/revoke"));
    scene.vault.answers(path, json!({ "serial": 1, "key": "hunter2" }));
    let error = refusal(read.issue().await, &["hunter2"]);
    assert!(
        error.kind() == ErrorKind::Configuration && error.message().contains("without a lease"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_and_certificates_of_a_database_are_read_and_not_shown() {
    let scene = Scene::new();
    let path = "database/creds/pipeline";
    scene.vault.answers_with(path, json!({ "username": "v-x", "rsa_private_key": "hunter2" }), lease());
    let keys = Leased::<KeyCredentials>::read(scene.vault.clone(), scene.token(), path)
        .issue()
        .await
        .unwrap()
        .secret;
    assert_eq!((keys.username(), keys.private_key().expose_secret()), ("v-x", "hunter2"));
    let data = json!({ "client_certificate": "PEM", "private_key": "hunter2", "private_key_type": "pkcs8" });
    scene.vault.answers_with(path, data, lease());
    let certificate = Leased::<CertificateCredentials>::read(scene.vault.clone(), scene.token(), path);
    let certificate = certificate.issue().await.unwrap().secret;
    assert_eq!((certificate.username(), certificate.certificate()), (None, "PEM"));
    assert_eq!(certificate.private_key().expose_secret(), "hunter2");
    let text = format!("{keys:?} {certificate:?}");
    assert!(text.contains("v-x") && !text.contains("hunter2"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_was_wrapped_is_a_type_of_ones_own_and_a_theft_is_told() {
    use ErrorKind::{Configuration, Denied, LoginRefused, Unexpected, Unreachable};
    let scene = Scene::new();
    let wrapping = Token::new("hvs.wrapping".to_owned());
    scene.vault.answers("sys/wrapping/unwrap", json!({ "serial": 7, "key": "hunter2" }));
    let signed: Signed = leasehold_secrets::unwrap(&*scene.vault, &wrapping).await.unwrap();
    assert_eq!((signed.serial, signed.key.expose_secret()), (7, "hunter2"));
    assert_eq!(scene.vault.asked(), ["hvs.wrapping sys/wrapping/unwrap {}"]);
    let mut answers = Vec::new();
    for kind in [LoginRefused, Denied, Unreachable, Configuration, Unexpected] {
        scene.vault.fails("sys/wrapping/unwrap", kind);
        let error = leasehold_secrets::unwrap::<Signed>(&*scene.vault, &wrapping).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hvs.wrapping"), "{text}");
        answers.push((error.kind(), text.contains("stolen")));
    }
    let untouched = [(Unreachable, false), (Configuration, false), (Unexpected, false)];
    assert_eq!(answers[..2], [(LoginRefused, true), (LoginRefused, true)]);
    assert_eq!(answers[2..], untouched, "the wrapping token is as it was");
}
