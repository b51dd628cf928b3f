//! What each login asks of the server, and what it makes of the answer.

mod common;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::Scripted;
use leasehold_auth::{AppRole, Ask, GivenToken, Jwt, Kubernetes, TlsCertificate, TokenFile, UserPass};
use leasehold_core::{
    Error, ErrorKind, ExposeSecret, Grant, Party, Provider, Record, Result, Revoked, SecretString, Token,
    TokenKind, async_trait,
    clock::{Clock, SystemClock},
    publish::{self, Published},
};
use serde_json::json;
use tokio::time::timeout;

fn record(grant: Grant<Token>) -> Arc<Record<Token>> {
    let mut channel = publish::channel("test", Arc::new(SystemClock));
    match channel.publisher.publish(grant, SystemClock.now()) {
        Published::New(record) | Published::Same(record) => record,
    }
}

#[tokio::test]
async fn kubernetes_reads_the_jwt_anew_at_each_login_and_trims_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let vault = Arc::new(Scripted::default());
    let login = Kubernetes::new(vault.clone(), "pipeline").mount("/auth/eu/").jwt_path(&path);
    for jwt in ["jwt-1\n", "  jwt-2"] {
        fs::write(&path, jwt).unwrap();
        let grant = login.issue().await.unwrap();
        assert!(grant.secret.revocable(), "what we logged in for is ours to revoke");
        assert_eq!(grant.lease.ttl(), Some(Duration::from_secs(60)));
    }
    let expected = |jwt: &str| ("auth/eu/login".to_owned(), json!({"role": "pipeline", "jwt": jwt}));
    assert_eq!(vault.asked(), [expected("jwt-1"), expected("jwt-2")]);
}

/// The server looks at this one again at each renewal (OpenBao 2.6.4, 2.7.1), and not at that of auth/jwt.
#[tokio::test]
async fn a_service_accounts_login_tells_how_long_the_server_will_renew_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let vault = Arc::new(Scripted::default());
    let kubernetes = Kubernetes::new(vault.clone(), "pipeline").jwt_path(&path);
    // Its claims are {"exp":4102444800,"iat":4102441200}: an hour, in 2099.
    fs::write(&path, "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDAsImlhdCI6NDEwMjQ0MTIwMH0.c2ln").unwrap();
    let lease = kubernetes.issue().await.unwrap().lease;
    assert_eq!(
        (lease.renewals_for(), lease.ttl()),
        (Some(Duration::from_secs(3600)), Some(Duration::from_secs(60)))
    );
    let jwt = Jwt::from_file(vault, "pipeline", &path).issue().await.unwrap().lease;
    assert_eq!(jwt.renewals_for(), None);
    fs::write(&path, "no.jwt").unwrap();
    assert_eq!(kubernetes.issue().await.unwrap().lease.renewals_for(), None);
}

/// A cache answers a login with the token of the login before, which must not be revoked as its own predecessor.
#[tokio::test]
async fn the_same_token_again_has_the_same_name() {
    let name = async |accessor, token| {
        let login = AppRole::new(Arc::new(Scripted { accessor, token, ..Scripted::default() }), "role-1");
        let grant = login.issue().await.unwrap();
        assert!(!format!("{grant:?}").contains(token));
        grant.lease.subject().unwrap().to_owned()
    };
    assert_eq!(name("acc-1", "hvs.one").await, "acc-1");
    assert_eq!(name("", "hvb.one").await, name("", "hvb.one").await);
    assert_ne!(name("", "hvb.one").await, name("", "hvb.two").await);
}

#[tokio::test(start_paused = true)]
async fn a_missing_jwt_is_an_error_of_the_file_and_asks_nothing() {
    let vault = Arc::new(Scripted::default());
    let error =
        Kubernetes::new(vault.clone(), "pipeline").jwt_path("/no/such/file").issue().await.unwrap_err();
    assert_eq!((error.kind(), error.party()), (ErrorKind::Configuration, Party::File));
    assert!(error.to_string().contains("/no/such/file does not exist"), "{error}");
    assert!(vault.asked().is_empty());
}

#[tokio::test]
async fn a_given_token_is_looked_up_renewed_and_never_revoked() {
    let vault = Arc::new(Scripted::default());
    let login = GivenToken::new(vault.clone(), " hvs.given\n");
    let grant = login.issue().await.unwrap();
    assert_eq!(grant.secret.value().expose_secret(), "hvs.given");
    assert_eq!(grant.version.as_deref(), Some("acc-1"), "the same token again is no new generation");
    let record = record(grant);
    login.renew(&record).await.unwrap();
    assert_eq!(login.revoke(&record).await.unwrap(), Revoked::NotOurs);
    let paths: Vec<_> = vault.asked().into_iter().map(|asked| asked.0).collect();
    assert_eq!(paths, ["auth/token/lookup-self", "auth/token/renew-self"]);
}

#[tokio::test]
async fn a_root_token_does_not_end_and_a_batch_token_cannot_be_revoked() {
    let root = GivenToken::new(Arc::new(Scripted::new(json!({"accessor": "a", "ttl": 0}))), "root");
    assert_eq!(root.issue().await.unwrap().lease.ttl(), None);
    let batch = json!({"accessor": "", "ttl": 9, "renewable": false, "type": "batch", "expire_time": "2026-01-01T00:00:00Z"});
    let batch = GivenToken::new(Arc::new(Scripted::new(batch)), "hvb.x").issue().await.unwrap();
    assert_eq!(batch.secret.kind(), TokenKind::Batch);
    assert!(!batch.lease.renewable() && !batch.secret.revocable());
    assert_eq!(batch.version.as_deref(), Some("2026-01-01T00:00:00Z"));
}

#[tokio::test]
async fn a_token_in_its_last_second_is_not_taken_for_one_that_does_not_end() {
    let lookup = json!({"accessor": "a", "ttl": 0, "expire_time": "2026-01-01T00:00:00Z", "renewable": true});
    let dying = GivenToken::new(Arc::new(Scripted::new(lookup)), "hvs.x").issue().await.unwrap();
    assert_eq!(dying.lease.ttl(), Some(Duration::ZERO));
}

#[tokio::test]
async fn a_shared_token_is_not_shortened_to_what_was_left_of_it() {
    let ten_left = json!({"accessor": "a", "ttl": 10, "creation_ttl": 3600, "renewable": true});
    let periodic =
        json!({"accessor": "a", "ttl": 10, "creation_ttl": 3600, "period": 600, "renewable": true});
    for (lookup, increment) in [(ten_left, 3600), (periodic, 600)] {
        let vault = Arc::new(Scripted::new(lookup));
        let login = GivenToken::new(vault.clone(), "hvs.x");
        let grant = login.issue().await.unwrap();
        assert_eq!(grant.lease.ttl(), Some(Duration::from_secs(10)));
        login.renew(&record(grant)).await.unwrap();
        let asked = vault.asked().pop().unwrap();
        assert_eq!(asked, ("auth/token/renew-self".to_owned(), json!({ "increment": increment })));
    }
}

#[tokio::test]
async fn a_token_file_is_read_again_for_its_successor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let login = TokenFile::new(Arc::new(Scripted::default()), &path);
    for token in ["hvs.one", "hvs.two"] {
        fs::write(&path, token).unwrap();
        assert_eq!(login.issue().await.unwrap().secret.value().expose_secret(), token);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_file_shows_when_there_is_another_token_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "hvs.one").unwrap();
    let login = TokenFile::new(Arc::new(Scripted::default()), &path);
    let record = record(login.issue().await.unwrap());
    let look = async || timeout(Duration::from_secs(5), login.changed(&record)).await.is_ok();
    for (content, changed) in
        [("hvs.one\n", false), ("", false), ("two words", false), ("hvs.two", true), ("hvs.one", false)]
    {
        fs::write(&path, content).unwrap();
        assert_eq!(look().await, changed, "{content}");
    }
    fs::remove_file(&path).unwrap();
    assert!(!look().await, "gone");
    fs::write(&path, "hvs.two").unwrap();
    login.issue().await.unwrap();
    assert!(!look().await, "what was tried is no news, whatever came of it");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_written_while_the_file_is_watched_is_seen_within_a_second_or_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "hvs.one").unwrap();
    let login = TokenFile::new(Arc::new(Scripted::default()), &path);
    let record = record(login.issue().await.unwrap());
    let mut changed = login.changed(&record);
    assert!(timeout(Duration::from_millis(500), &mut changed).await.is_err(), "it is watched");
    fs::write(&path, "hvs.two").unwrap();
    assert!(timeout(Duration::from_secs(2), &mut changed).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_file_that_is_not_written_yet_is_waited_for_and_each_reader_has_its_own_eyes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let first = TokenFile::new(Arc::new(Scripted::default()), &path);
    let second = first.clone();
    for content in [None, Some("")] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let error = first.issue().await.unwrap_err();
        assert_eq!((error.kind(), error.party()), (ErrorKind::NotYet, Party::File), "{error}");
    }
    fs::write(&path, "two words").unwrap();
    assert_eq!(first.issue().await.unwrap_err().kind(), ErrorKind::Configuration);
    fs::write(&path, "hvs.one").unwrap();
    let record = record(first.issue().await.unwrap());
    second.issue().await.unwrap();
    fs::write(&path, "hvs.two").unwrap();
    first.issue().await.unwrap();
    assert!(timeout(Duration::from_secs(5), second.changed(&record)).await.is_ok());
}

#[tokio::test]
async fn a_certificate_is_all_that_is_sent_but_for_the_role() {
    let vault = Arc::new(Scripted::default());
    TlsCertificate::new(vault.clone()).issue().await.unwrap();
    let login = TlsCertificate::new(vault.clone()).role("pipeline").mount("auth/mtls/");
    assert!(login.issue().await.unwrap().secret.revocable());
    let expected = [
        ("auth/cert/login".to_owned(), json!({})),
        ("auth/mtls/login".to_owned(), json!({"name": "pipeline"})),
    ];
    assert_eq!(vault.asked(), expected);
    assert_eq!(
        format!("{login:?}"),
        r#"TlsCertificate { path: "auth/mtls/login", role: Some("pipeline"), .. }"#
    );
}

#[tokio::test]
async fn a_dead_token_is_told() {
    let login = GivenToken::new(Arc::new(Scripted::new(json!(null))), "hvs.dead");
    assert_eq!(login.issue().await.unwrap_err().kind(), ErrorKind::DeadToken);
}

#[tokio::test]
async fn an_empty_token_is_none_whoever_speaks_to_the_server() {
    for token in ["", " \n"] {
        let vault = Arc::new(Scripted { token, ..Scripted::default() });
        let error = AppRole::new(vault, "role-1").issue().await.unwrap_err();
        assert_eq!((error.kind(), error.party()), (ErrorKind::Unexpected, Party::Vault));
        assert!(error.message().contains("auth/approle/login answered without a token"), "{error}");
    }
}

#[tokio::test]
async fn an_approle_sends_its_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret-id");
    fs::write(&path, "from-a-file\n").unwrap();
    let vault = Arc::new(Scripted::default());
    AppRole::new(vault.clone(), " role-1\n").issue().await.unwrap();
    AppRole::new(vault.clone(), "role-1").secret_id("given ").mount("auth/machines/").issue().await.unwrap();
    AppRole::new(vault.clone(), "role-1").secret_id_file(&path).issue().await.unwrap();
    let expected = [
        ("auth/approle/login".to_owned(), json!({"role_id": "role-1"})),
        ("auth/machines/login".to_owned(), json!({"role_id": "role-1", "secret_id": "given"})),
        ("auth/approle/login".to_owned(), json!({"role_id": "role-1", "secret_id": "from-a-file"})),
    ];
    assert_eq!(vault.asked(), expected);
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_for_all_logins() {
    let vault = Arc::new(Scripted::with_wrapped(json!({"secret_id": "unwrapped"})));
    let login = AppRole::new(vault.clone(), "role-1").wrapped_secret_id("hvs.wrap\n");
    login.issue().await.unwrap();
    login.clone().issue().await.unwrap();
    let asked = vault.asked();
    let paths: Vec<_> = asked.iter().map(|asked| asked.0.as_str()).collect();
    assert_eq!(paths, ["sys/wrapping/unwrap", "auth/approle/login", "auth/approle/login"]);
    assert_eq!(asked[2].1, json!({"role_id": "role-1", "secret_id": "unwrapped"}));
}

#[tokio::test]
async fn a_wrapping_token_that_was_used_is_told_as_the_theft_that_it_may_be() {
    let vault = Arc::new(Scripted::default());
    let error =
        AppRole::new(vault.clone(), "role-1").wrapped_secret_id("hvs.wrap").issue().await.unwrap_err();
    assert_eq!((error.kind(), error.party()), (ErrorKind::LoginRefused, Party::Configuration));
    let text = error.to_string();
    assert!(text.contains("as stolen") && !text.contains("hvs.wrap"), "{text}");
    assert_eq!(vault.asked().len(), 1, "nothing was logged in with");
}

#[tokio::test]
async fn a_wrapped_answer_without_the_field_names_it_and_not_its_value() {
    let vault = Arc::new(Scripted::with_wrapped(json!({"password": "hunter2"})));
    let error = AppRole::new(vault, "role-1").wrapped_secret_id("hvs.wrap").issue().await.unwrap_err();
    assert!(error.to_string().contains("`secret_id`") && !error.to_string().contains("hunter2"), "{error}");
}

/// The wrapping token is used up, and by us: the next attempt must not cry theft, nor ask.
#[tokio::test]
async fn a_wrapped_answer_that_does_not_fit_is_told_again_and_is_no_theft() {
    for (data, wraps_a_token) in
        [(json!({"password": "hunter2"}), false), (json!({"secret_id": ""}), false), (json!({}), true)]
    {
        let vault = Arc::new(Scripted { wraps_a_token, ..Scripted::with_wrapped(data) });
        let login = AppRole::new(vault.clone(), "role-1").wrapped_secret_id("hvs.wrap");
        for _ in 0..2 {
            let error = login.issue().await.unwrap_err();
            assert_eq!((error.kind(), error.party()), (ErrorKind::Configuration, Party::Configuration));
            assert!(
                error.message().contains("the secret id") && !error.message().contains("stolen"),
                "{error}"
            );
            assert!(!error.message().contains("hvs.") && !error.message().contains("hunter2"), "{error}");
        }
        assert_eq!(vault.asked().len(), 1, "unwrapped once, and no login with what it held");
    }
}

#[tokio::test]
async fn a_wrapped_login_is_a_token_too_and_an_empty_one_is_none() {
    let wrapping = |token| Scripted { wraps_a_token: true, token, ..Scripted::with_wrapped(json!({})) };
    let login = GivenToken::wrapped(Arc::new(wrapping("hvs.inside")), "hvs.wrap");
    assert_eq!(login.issue().await.unwrap().secret.value().expose_secret(), "hvs.inside");
    let error = GivenToken::wrapped(Arc::new(wrapping("")), "hvs.wrap").issue().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
}

/// Only an attempt that the server may have carried out can have been the one that took it.
#[tokio::test]
async fn a_theft_is_not_put_down_to_an_attempt_that_came_to_nothing() {
    let silence = Error::new(ErrorKind::Unreachable, Party::Vault, "no answer");
    for (before, ours) in [(silence.clone(), false), (silence.unanswered(), true)] {
        let vault = Arc::new(Scripted::default());
        vault.fails(before);
        let login = AppRole::new(vault, "role-1").wrapped_secret_id("hvs.wrap");
        assert_eq!(login.issue().await.unwrap_err().kind(), ErrorKind::Unreachable);
        let error = login.issue().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRefused);
        assert_eq!(error.message().contains("an attempt of ours"), ours, "{error}");
    }
}

struct Nothing;

#[async_trait]
impl Ask for Nothing {
    async fn ask(&self) -> Result<SecretString> {
        Ok(" \n".to_owned().into())
    }
}

#[tokio::test]
async fn an_empty_secret_is_sent_to_nobody() {
    let vault = Arc::new(Scripted::default());
    let errors = [
        GivenToken::new(vault.clone(), " \n").issue().await.unwrap_err(),
        AppRole::new(vault.clone(), "role-1").secret_id("").issue().await.unwrap_err(),
        Jwt::from_asking(vault.clone(), "pipeline", Nothing).issue().await.unwrap_err(),
        UserPass::new(vault.clone(), "pipeline", "").issue().await.unwrap_err(),
    ];
    for (error, what) in errors.iter().zip(["the token", "the secret id", "the JWT", "the password"]) {
        assert_eq!((error.kind(), error.party()), (ErrorKind::Configuration, Party::Configuration));
        assert_eq!(error.message(), format!("{what} is empty"));
    }
    assert!(vault.asked().is_empty());
}

#[tokio::test]
async fn a_lookup_that_is_not_answered_leaves_nothing() {
    let vault = Arc::new(Scripted::default());
    vault.fails(Error::new(ErrorKind::Unreachable, Party::Vault, "no answer").unanswered());
    assert!(!GivenToken::new(vault, "hvs.x").issue().await.unwrap_err().may_have_been_carried_out());
}

#[tokio::test]
async fn a_wrapped_token_is_unwrapped_once_and_never_revoked() {
    let vault = Arc::new(Scripted::with_wrapped(json!({"token": "hvs.inside"})));
    let login = GivenToken::wrapped(vault.clone(), "hvs.wrap");
    for _ in 0..2 {
        assert_eq!(login.issue().await.unwrap().secret.value().expose_secret(), "hvs.inside");
    }
    let paths: Vec<_> = vault.asked().into_iter().map(|asked| asked.0).collect();
    assert_eq!(paths, ["sys/wrapping/unwrap", "auth/token/lookup-self", "auth/token/lookup-self"]);
    let record = record(login.issue().await.unwrap());
    assert_eq!(login.revoke(&record).await.unwrap(), Revoked::NotOurs);
    assert!(!format!("{login:?}").contains("hvs."));
}

struct Counting(AtomicUsize);

#[async_trait]
impl Ask for Counting {
    async fn ask(&self) -> Result<SecretString> {
        Ok(format!("jwt-{}", self.0.fetch_add(1, Ordering::Relaxed)).into())
    }
}

#[tokio::test]
async fn a_jwt_is_read_or_asked_for_anew_at_each_login() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwt");
    let vault = Arc::new(Scripted::default());
    let login = Jwt::from_file(vault.clone(), "pipeline", &path).mount("gitlab");
    for jwt in ["one", "two"] {
        fs::write(&path, jwt).unwrap();
        login.issue().await.unwrap();
    }
    let login = Jwt::from_asking(vault.clone(), "pipeline", Counting(AtomicUsize::new(3)));
    login.issue().await.unwrap();
    login.issue().await.unwrap();
    let sent: Vec<_> = vault.asked().into_iter().map(|(path, body)| (path, body["jwt"].clone())).collect();
    let expected = [("gitlab", "one"), ("gitlab", "two"), ("jwt", "jwt-3"), ("jwt", "jwt-4")];
    assert_eq!(sent, expected.map(|(mount, jwt)| (format!("auth/{mount}/login"), json!(jwt))));
}

#[tokio::test]
async fn a_user_logs_in_below_their_name() {
    let vault = Arc::new(Scripted::default());
    UserPass::new(vault.clone(), "pipeline", " p w ").mount("ldap").issue().await.unwrap();
    assert_eq!(vault.asked(), [("auth/ldap/login/pipeline".to_owned(), json!({"password": " p w "}))]);
    for name in ["", "a/../b"] {
        let error = UserPass::new(vault.clone(), name, "p").issue().await.unwrap_err();
        assert_eq!((error.kind(), error.party()), (ErrorKind::Configuration, Party::Configuration));
    }
    assert_eq!(vault.asked().len(), 1);
}

#[test]
fn debug_tells_no_secret() {
    let vault = Arc::new(Scripted::default());
    let text = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        GivenToken::new(vault.clone(), "hvs.secret"),
        Kubernetes::new(vault.clone(), "pipeline"),
        AppRole::new(vault.clone(), "role-1").secret_id("hvs.secret"),
        AppRole::new(vault.clone(), "role-1").wrapped_secret_id("hvs.secret"),
        AppRole::new(vault.clone(), "role-1").secret_id_file("/run/secret-id"),
        Jwt::from_asking(vault.clone(), "pipeline", Counting(AtomicUsize::new(0))),
        UserPass::new(vault, "pipeline", "hvs.secret"),
    );
    assert!(
        !text.contains("hvs.secret") && text.contains("pipeline") && text.contains("/run/secret-id"),
        "{text}"
    );
}
