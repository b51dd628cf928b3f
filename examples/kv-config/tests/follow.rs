//! A configuration is taken over when it is written, and a bad one is not.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use kv_config::{Mail, follow};
use leasehold_auth::GivenToken;
use leasehold_core::{EventKind, ExposeSecret};
use leasehold_renewal::Keeper;
use leasehold_secrets::Kv;
use leasehold_testbed::{Config, Testbed};
use leasehold_vault::Client;
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_good_version_is_applied_once_and_a_bad_one_is_told() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let write = async |path: &str, body| testbed.openbao().request("POST", path, Some(body)).await;
    write("sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } })).await.unwrap();
    let entry = "secret/data/pipeline/mail";
    let stored = |port, password: &str| json!({ "data": { "host": "mail.example", "port": port, "password": password } });
    let patience = Duration::from_secs(20);
    // The engine is busy for a moment after it was mounted.
    let first = async { while write(entry, stored(json!(25), "first-one")).await.is_err() {} };
    timeout(patience, first).await.unwrap();

    let vault = Arc::new(Client::builder().address(testbed.openbao().address()).build().unwrap());
    let token = Keeper::start(GivenToken::new(vault.clone(), testbed.openbao().root_token())).await.unwrap();
    let mail =
        Kv::<Mail>::v2(vault, token.current(), "secret", "pipeline/mail").every(Duration::from_secs(1));
    let mail = Keeper::start(mail).await.unwrap();
    let mut events = mail.events();
    let (applied, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(follow(mail.current(), move |mail| {
        let secret = mail.secret();
        let _ = applied.send((secret.port, secret.password.expose_secret().to_owned()));
    }));
    let mut next = async || timeout(patience, seen.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, (25, "first-one".to_owned()));
    write(entry, stored(json!(587), "second-one")).await.unwrap();
    assert_eq!(next().await, (587, "second-one".to_owned()));

    write(entry, stored(json!("third-one"), "third-one")).await.unwrap();
    let told = loop {
        if let EventKind::Failed { error, .. } = timeout(patience, events.recv()).await.unwrap().unwrap().kind
        {
            break error.to_string();
        }
    };
    assert!(told.contains("`port` is not u16") && !told.contains("third-one"), "{told}");
    write(entry, stored(json!(465), "fourth-one")).await.unwrap();
    assert_eq!(next().await, (465, "fourth-one".to_owned()));
    assert!(!format!("{:?}", mail.current().get().unwrap().secret()).contains("fourth-one"));
    mail.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
}
