//! What the provider asks of the server, and with which token.

mod common;

use std::time::Duration;

use common::Scene;
use leasehold_core::{ErrorKind, ExposeSecret, Grant, Lease, Provider, Revoked, Token, Uses, clock::Clock};
use leasehold_secrets::DatabaseRole;
use serde_json::json;

/// A role that can be read, renewed and revoked.
fn scene() -> Scene {
    let scene = Scene::new();
    let user = json!({"username": "v-pipeline", "password": "p@:/%#?'\" \\"});
    scene.vault.answers_with("db/creds/pipeline", user, lease());
    scene.vault.answers_with("sys/leases/renew", json!({}), lease());
    scene.vault.answers("sys/leases/revoke", json!({}));
    scene
}

fn lease() -> Lease {
    Lease::new("database/creds/pipeline/1", Duration::from_secs(60), true)
}

fn role(scene: &Scene) -> DatabaseRole {
    DatabaseRole::new(scene.vault.clone(), scene.token(), "pipeline").mount("/db/")
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_and_revoked_with_its_own_token_while_that_lives() {
    let mut scene = scene();
    let role = role(&scene);
    let grant = role.issue().await.unwrap();
    assert_eq!(grant.secret.password().expose_secret(), "p@:/%#?'\" \\");
    assert_eq!(grant.lease.subject(), Some("v-pipeline"));
    let record = scene.record(grant);

    scene.log_in("two");
    role.renew(&record).await.unwrap();
    scene.clock.suspend(Duration::from_secs(101));
    assert_eq!(role.revoke(&record).await.unwrap(), Revoked::Done);
    assert_eq!(
        scene.vault.asked(),
        [
            "one db/creds/pipeline null",
            r#"one sys/leases/renew {"increment":60,"lease_id":"database/creds/pipeline/1"}"#,
            r#"two sys/leases/revoke {"lease_id":"database/creds/pipeline/1"}"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_reported_to_its_keeper_and_another_failure_is_not() {
    let mut scene = scene();
    let role = role(&scene);
    for (kind, reported) in [(ErrorKind::Denied, false), (ErrorKind::DeadToken, true)] {
        scene.vault.fails("db/creds/pipeline", kind);
        assert_eq!(role.issue().await.unwrap_err().kind(), kind);
        assert_eq!(scene.tokens.rejections.try_recv().is_some(), reported, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_can_be_cut_short_until_its_first_renewal() {
    let scene = scene();
    let grant = role(&scene).first_ttl(Duration::from_secs(20)).issue().await.unwrap();
    assert_eq!(grant.lease.increment(), Duration::from_secs(60), "what each renewal asks for");
    role(&scene).first_ttl(Duration::from_secs(60)).issue().await.unwrap();
    assert_eq!(
        scene.vault.asked(),
        [
            "one db/creds/pipeline null",
            r#"one sys/leases/renew {"increment":20,"lease_id":"database/creds/pipeline/1"}"#,
            "one db/creds/pipeline null",
        ]
    );
}

/// The server ends the lease when the cut says, whether or not that was heard.
#[tokio::test(start_paused = true)]
async fn a_cut_that_may_have_been_carried_out_is_believed_to_have_been() {
    let scene = scene();
    let cut = async || {
        let lease = role(&scene).first_ttl(Duration::from_secs(20)).issue().await.unwrap().lease;
        assert_eq!((lease.increment(), lease.renewable()), (Duration::from_secs(60), true));
        lease.ttl().unwrap().as_secs()
    };
    scene.vault.leaves_unanswered("sys/leases/renew");
    assert_eq!(cut().await, 20, "no answer");
    scene.vault.answers("sys/leases/renew", json!({}));
    assert_eq!(cut().await, 20, "an answer that says nothing");
    scene.vault.fails("sys/leases/renew", ErrorKind::Denied);
    assert_eq!(cut().await, 60, "a refusal");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_given_back_is_told() {
    let scene = scene();
    let keys = json!({"username": "v", "rsa_private_key": "x"});
    scene.vault.answers_with("db/creds/pipeline", keys, lease());
    for (kind, left) in [
        (ErrorKind::Denied, true),
        (ErrorKind::Unreachable, true),
        (ErrorKind::LeaseGone, false),
        (ErrorKind::DeadToken, false),
    ] {
        scene.vault.fails("sys/leases/revoke", kind);
        let error = role(&scene).issue().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(error.may_have_been_carried_out(), left, "{error}");
        let told = error.message().contains("could not be given back: scripted");
        assert!(told == left && error.message().contains("credential_type"), "{error}");
    }
    scene.vault.answers("sys/leases/revoke", json!({}));
    assert!(!role(&scene).issue().await.unwrap_err().may_have_been_carried_out());
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_anything_may_have_been_an_issue() {
    let scene = scene();
    scene.vault.answers("db/creds/pipeline", json!({}));
    assert!(role(&scene).issue().await.unwrap_err().may_have_been_carried_out());
    scene.vault.answers("db/creds/pipeline", json!({"ttl": 3}));
    assert!(!role(&scene).issue().await.unwrap_err().may_have_been_carried_out(), "an entry of kv, for one");
}

#[tokio::test(start_paused = true)]
async fn the_last_use_of_a_token_is_not_spent_on_what_would_end_with_it() {
    let mut scene = scene();
    let uses = Uses::new(2);
    let token = Token::new("one".to_owned()).with_uses(Some(uses.clone()));
    let lease = Lease::new("", Duration::from_secs(100), true);
    scene.tokens.publisher.publish(Grant::new(token, lease), scene.clock.now());
    let role = role(&scene);
    let grant = role.issue().await.unwrap();
    let record = scene.record(grant);
    uses.take_one();
    assert_eq!(role.renew(&record).await.unwrap_err().kind(), ErrorKind::NotRenewable);
    let error = role.issue().await.unwrap_err();
    assert!(error.kind() == ErrorKind::DeadToken && error.message().contains("token_num_uses"), "{error}");
    assert_eq!(role.revoke(&record).await.unwrap_err().kind(), ErrorKind::NotYet);
    assert_eq!(scene.vault.asked().len(), 1);
    assert!(scene.tokens.rejections.try_recv().is_some(), "its keeper is to get another");
    scene.log_in("two");
    assert_eq!(role.revoke(&record).await.unwrap(), Revoked::Done);
    assert!(scene.vault.asked().last().unwrap().starts_with("two sys/leases/revoke"));
}

#[tokio::test(start_paused = true)]
async fn debug_and_name_tell_the_path_only() {
    let role = role(&scene());
    assert_eq!(role.name(), "db/creds/pipeline");
    assert_eq!(format!("{role:?}"), r#"DatabaseRole { path: "db/creds/pipeline", .. }"#);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_used_leaves_no_lease() {
    let scene = scene();
    // A credential type that a pool cannot use.
    let keys = json!({"username": "v", "rsa_private_key": "x"});
    scene.vault.answers_with("database/creds/pipeline", keys, lease());
    let role = DatabaseRole::new(scene.vault.clone(), scene.token(), "pipeline");
    let error = role.issue().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error.message().starts_with("database/creds/pipeline: ")
            && error.message().contains("credential_type"),
        "{error}"
    );
    let revoked = r#"one sys/leases/revoke {"lease_id":"database/creds/pipeline/1"}"#;
    assert_eq!(scene.vault.asked(), ["one database/creds/pipeline null", revoked]);
}
