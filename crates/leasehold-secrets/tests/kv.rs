//! What is read from the kv engine, and what is made of it.

mod common;

use std::time::Duration;

use common::{Scene, refusal};
use leasehold_core::{
    ErrorKind, ExposeSecret, Grant, Lease, Provider, Revoked, SecretString, Token, Uses, clock::Clock,
};
use leasehold_secrets::Kv;
use serde_json::{Value, json};
use tokio::time::timeout;

#[derive(Debug, serde::Deserialize)]
struct Mail {
    host: String,
    port: u16,
    password: SecretString,
}

fn entry(version: u64, data: &Value) -> Value {
    json!({ "data": data, "metadata": { "version": version, "created_time": "2026-01-01T06:00:00Z" } })
}

fn mail() -> Value {
    json!({ "host": "mail.example", "port": 25, "password": "hunter2" })
}

fn v2(scene: &Scene) -> Kv<Mail> {
    Kv::v2(scene.vault.clone(), scene.token(), "/secret/", "/pipeline/mail")
}

fn v1(scene: &Scene) -> Kv<Mail> {
    Kv::v1(scene.vault.clone(), scene.token(), "secret", "pipeline/mail")
}

/// A read makes nothing that could be left behind, so it may be repeated at the usual pace.
#[tokio::test(start_paused = true)]
async fn a_read_that_is_not_answered_leaves_nothing() {
    let scene = Scene::new();
    scene.vault.leaves_unanswered("secret/data/pipeline/mail");
    assert!(!refusal(v2(&scene).issue().await, &[]).may_have_been_carried_out());
}

#[tokio::test(start_paused = true)]
async fn a_version_is_told_by_its_number_and_its_time_and_hangs_from_no_token() {
    let scene = Scene::new();
    scene.vault.answers("secret/data/pipeline/mail", entry(7, &mail()));
    let kv = v2(&scene).every(Duration::from_secs(15));
    let grant = kv.issue().await.unwrap();
    assert_eq!(grant.version.as_deref(), Some("7 of 2026-01-01T06:00:00Z"));
    assert_eq!((grant.secret.host.as_str(), grant.secret.port), ("mail.example", 25));
    assert_eq!(grant.secret.password.expose_secret(), "hunter2");
    assert_eq!((grant.lease.ttl(), grant.lease.poll()), (None, Some(Duration::from_secs(15))));
    assert!(grant.parent.is_none());
    let record = scene.record(grant);
    assert_eq!(kv.renew(&record).await.unwrap_err().kind(), ErrorKind::NotRenewable);
    assert_eq!(kv.revoke(&record).await.unwrap(), Revoked::NotOurs);
    assert_eq!(scene.vault.asked(), ["one secret/data/pipeline/mail null"]);
    let text = format!("{kv:?} {:?}", record.secret());
    assert!(text.contains("secret/data/pipeline/mail") && !text.contains("hunter2"), "{text}");
    for (kv, seconds) in [(v2(&scene), 60), (v2(&scene).every(Duration::ZERO), 1)] {
        assert_eq!(kv.issue().await.unwrap().lease.poll(), Some(Duration::from_secs(seconds)));
    }
}

#[tokio::test(start_paused = true)]
async fn version_1_is_told_apart_by_what_it_holds() {
    let scene = Scene::new();
    let kv = v1(&scene);
    let version = async |data: Value| {
        scene.vault.answers("secret/pipeline/mail", data);
        kv.clone().issue().await.unwrap().version.unwrap()
    };
    let first = version(mail()).await;
    assert_eq!(version(mail()).await, first);
    let mut other = mail();
    other["password"] = "hunter3".into();
    assert_ne!(version(other).await, first);
    assert_eq!(version(mail()).await, first);
    // A hash that could be compared would be one to guess short passwords with.
    assert_ne!(v1(&scene).issue().await.unwrap().version.unwrap(), first, "it is of this reader only");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_told_by_path_and_field_and_not_by_value() {
    let scene = Scene::new();
    for (data, problem) in [
        (json!({ "host": "h", "port": "hunter2", "password": "hunter2" }), "`port` is not u16"),
        (json!({ "host": "h", "port": 1 }), "there is no field `password`"),
    ] {
        scene.vault.answers("secret/data/pipeline/mail", entry(1, &data));
        scene.vault.answers("secret/pipeline/mail", data);
        for (issued, path) in [
            (v2(&scene).issue().await, "secret/data/pipeline/mail: "),
            (v1(&scene).issue().await, "secret/pipeline/mail: "),
        ] {
            let error = refusal(issued, &["hunter2"]);
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.message().starts_with(path) && error.message().contains(problem), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_wrong_version_and_the_wrong_engine_are_told() {
    let scene = Scene::new();
    let mounted = |kind: &str, version: Value| {
        let options = json!({ "type": kind, "options": version });
        scene.vault.answers("sys/internal/ui/mounts/secret", options);
    };
    for (kind, version, for_v1, for_v2) in [
        ("kv", json!({ "version": "1" }), None, Some("`Kv::v1`")),
        ("kv", Value::Null, None, Some("`Kv::v1`")),
        ("kv", json!({ "version": "2" }), Some("`Kv::v2`"), None),
        ("transit", Value::Null, Some("transit"), Some("transit")),
    ] {
        mounted(kind, version);
        for (issued, said) in [(v1(&scene).issue().await, for_v1), (v2(&scene).issue().await, for_v2)] {
            let error = refusal(issued, &[]);
            match said {
                Some(said) => {
                    assert_eq!(error.kind(), ErrorKind::Configuration);
                    assert!(error.message().contains(said), "{error}");
                }
                None => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    assert!(error.message().contains("never written"), "{error}");
                }
            }
        }
    }
    scene.vault.fails("secret/data/pipeline/mail", ErrorKind::Unreachable);
    scene.vault.asked();
    assert_eq!(v2(&scene).issue().await.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(scene.vault.asked().len(), 1, "an outage needs no explanation");
}

#[tokio::test(start_paused = true)]
async fn a_cubbyhole_ends_with_its_token() {
    let mut scene = Scene::new();
    scene.vault.answers("cubbyhole/pipeline/mail", mail());
    let kv = Kv::<Mail>::cubbyhole(scene.vault.clone(), scene.token(), "pipeline/mail");
    let grant = kv.issue().await.unwrap();
    assert_eq!(grant.parent.unwrap().secret().value().expose_secret(), "one");
    scene.log_in("two");
    assert_eq!(kv.issue().await.unwrap().parent.unwrap().secret().value().expose_secret(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_reported_and_one_that_has_ended_is_waited_for() {
    let mut scene = Scene::new();
    for (kind, reported) in [(ErrorKind::Denied, false), (ErrorKind::DeadToken, true)] {
        scene.vault.fails("secret/data/pipeline/mail", kind);
        assert_eq!(v2(&scene).issue().await.unwrap_err().kind(), kind);
        assert_eq!(scene.tokens.rejections.try_recv().is_some(), reported, "{kind}");
    }
    scene.vault.asked();
    scene.clock.suspend(Duration::from_secs(101));
    assert_eq!(v2(&scene).issue().await.unwrap_err().kind(), ErrorKind::NotYet);
    assert!(scene.vault.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_use_of_a_token_is_not_spent_on_a_poll() {
    let mut scene = Scene::new();
    let uses = Uses::new(2);
    let token = Token::new("few".to_owned()).with_uses(Some(uses.clone()));
    let lease = Lease::new("", Duration::from_secs(100), true);
    scene.tokens.publisher.publish(Grant::new(token, lease), scene.clock.now());
    scene.vault.answers("secret/data/pipeline/mail", entry(1, &mail()));
    v2(&scene).issue().await.unwrap();
    uses.take_one();
    scene.vault.asked();
    assert_eq!(v2(&scene).issue().await.unwrap_err().kind(), ErrorKind::NotYet);
    assert!(scene.vault.asked().is_empty());
    assert!(scene.tokens.rejections.try_recv().is_some(), "its keeper is to get another");
}

#[tokio::test(start_paused = true)]
async fn the_successor_of_a_dead_token_is_heard_of() {
    let mut scene = Scene::new();
    scene.vault.answers("secret/data/pipeline/mail", entry(1, &mail()));
    let kv = v2(&scene);
    let record = scene.record(kv.issue().await.unwrap());
    scene.vault.fails("secret/data/pipeline/mail", ErrorKind::DeadToken);
    assert_eq!(kv.issue().await.unwrap_err().kind(), ErrorKind::DeadToken);
    assert!(timeout(Duration::from_secs(60), kv.changed(&record)).await.is_err(), "there is none yet");
    scene.log_in("two");
    timeout(Duration::from_secs(1), kv.changed(&record)).await.unwrap();
    scene.vault.answers("secret/data/pipeline/mail", entry(1, &mail()));
    kv.issue().await.unwrap();
    assert!(timeout(Duration::from_secs(60), kv.changed(&record)).await.is_err(), "it was heard of");
}
