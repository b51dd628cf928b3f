//! Secrets other than a database's credentials, from a real server, and what can be wrong with each.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use leasehold_core::{
    Credentials, Current, Error, ErrorKind, Event, EventKind, ExposeSecret, Provider, SecretString, Token,
    Vault,
};
use leasehold_renewal::{Builder, Keeper};
use leasehold_secrets::{KeyCredentials, Kv, Leased, Pki};
use leasehold_suites::{events, kubernetes, let_pass, wait_until};
use leasehold_testbed::{Config, Testbed};
use leasehold_vault::{Client, vaultrs};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const POLICY: &str = "sys/policies/acl/pipeline";
const SOON: Duration = Duration::from_secs(10);

/// A testbed, and a token of its service account that may read what each case writes.
struct Stage {
    testbed: Testbed,
    client: Client,
    vault: Arc<dyn Vault>,
    token: Keeper<Token>,
}

impl Stage {
    async fn set() -> Self {
        Self::set_with(Config::default()).await
    }

    async fn set_with(config: Config) -> Self {
        let config = Config { token_ttl: MINUTE, token_max_ttl: MINUTE * 10, ..config };
        let testbed = Testbed::start(config).await.unwrap();
        let client = Client::builder().address(testbed.openbao().address()).timeout(SOON).build().unwrap();
        let vault: Arc<dyn Vault> = Arc::new(client.clone());
        let token = Keeper::start(kubernetes(&testbed, &vault)).await.unwrap();
        Self { testbed, client, vault, token }
    }

    fn token(&self) -> Current<Token> {
        self.token.current()
    }

    async fn write(&self, path: &str, body: Value) -> Value {
        self.testbed.openbao().request("POST", path, Some(body)).await.unwrap()
    }

    /// Lets the service's policy do more.
    async fn allow(&self, rules: &[(&str, &str)]) {
        let policy = self.testbed.openbao().request("GET", POLICY, None).await.unwrap();
        let mut policy = policy["data"]["policy"].as_str().unwrap().to_owned();
        for (path, capabilities) in rules {
            policy += &format!("\npath \"{path}\" {{ capabilities = [{capabilities}] }}");
        }
        self.write(POLICY, json!({ "policy": policy })).await;
    }

    /// Takes a rule away again.
    async fn forbid(&self, path: &str) {
        let policy = self.testbed.openbao().request("GET", POLICY, None).await.unwrap();
        let policy = policy["data"]["policy"].as_str().unwrap();
        let rest: Vec<_> = policy.lines().filter(|line| !line.contains(path)).collect();
        self.write(POLICY, json!({ "policy": rest.join("\n") })).await;
    }

    async fn stop(self) {
        self.token.shutdown().await.unwrap();
    }
}

/// The error of what cannot be had; it tells none of these.
async fn refusal<S>(of: impl Provider<Secret = S>, secrets: &[&str]) -> Error {
    let Err(error) = of.issue().await else { panic!("{} was issued", of.name()) };
    println!("{error}");
    for secret in secrets {
        assert!(!format!("{error} {error:?}").contains(secret), "a secret is told");
    }
    error
}

fn failures(receiver: &mut tokio::sync::broadcast::Receiver<Event>) -> Vec<EventKind> {
    events(receiver).into_iter().filter(|event| matches!(event, EventKind::Failed { .. })).collect()
}

#[derive(Debug, serde::Deserialize)]
struct Mail {
    host: String,
    port: u16,
    password: SecretString,
}

fn mail(password: &str) -> Value {
    json!({ "host": "mail.example", "port": 25, "password": password })
}

fn password(of: &Keeper<Mail>) -> String {
    of.current().get().unwrap().secret().password.expose_secret().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_kv_is_followed_and_nothing_bad_displaces_it() {
    let stage = Stage::set().await;
    stage.write("sys/mounts/kv1", json!({ "type": "kv" })).await;
    stage.write("sys/mounts/kv2", json!({ "type": "kv", "options": { "version": "2" } })).await;
    stage.allow(&[("kv1/*", "\"read\""), ("kv2/*", "\"read\"")]).await;
    // The engine of version 2 is busy for a moment after it was mounted.
    wait_until("kv2 takes writes", MINUTE, || async {
        let body = Some(json!({ "data": mail("hunter-one") }));
        stage.testbed.openbao().request("POST", "kv2/data/mail", body).await.is_ok()
    })
    .await
    .unwrap();
    stage.write("kv1/mail", mail("hunter-one")).await;
    let kv1 = |mount: &str, entry: &str| Kv::<Mail>::v1(stage.vault.clone(), stage.token(), mount, entry);
    let kv2 = |mount: &str, entry: &str| Kv::<Mail>::v2(stage.vault.clone(), stage.token(), mount, entry);

    // One asked as the other, an entry and a mount that are not there, and what is no kv engine at all.
    for (error, kind, said) in [
        (refusal(kv2("kv1", "mail"), &["hunter-one"]).await, ErrorKind::Configuration, "`Kv::v1`"),
        (refusal(kv1("kv2", "mail"), &["hunter-one"]).await, ErrorKind::Configuration, "`Kv::v2`"),
        (refusal(kv1("kv1", "other"), &[]).await, ErrorKind::NotFound, "never written"),
        (refusal(kv2("kv2", "other"), &[]).await, ErrorKind::NotFound, "never written"),
        (refusal(kv2("nowhere", "mail"), &[]).await, ErrorKind::Denied, "nowhere/data/mail"),
        (refusal(kv1("database", "mail"), &[]).await, ErrorKind::Configuration, "no kv engine"),
    ] {
        assert!(error.kind() == kind && error.message().contains(said), "{error}");
    }

    let often = Duration::from_secs(1);
    let first = Keeper::start(kv1("kv1", "mail").every(often)).await.unwrap();
    let second = Keeper::start(kv2("kv2", "mail").every(often)).await.unwrap();
    assert_eq!((first.current().get().unwrap().secret().port, &*password(&second)), (25, "hunter-one"));
    let (happened, mut next) = (Mutex::new(second.events()), second.current());
    let written_as = |body: Value| json!({ "data": body });
    stage.write("kv1/mail", mail("hunter-two")).await;
    stage.write("kv2/data/mail", written_as(mail("hunter-two"))).await;
    next.changed().await.unwrap();
    wait_until("both have the second", SOON, || async {
        password(&first) == "hunter-two" && password(&second) == "hunter-two"
    })
    .await
    .unwrap();
    let version = second.current().get().unwrap().version().unwrap().to_owned();
    assert!(version.starts_with("2 of "), "{version}");
    let issued = events(&mut happened.lock().unwrap())
        .into_iter()
        .filter(|event| matches!(event, EventKind::Issued { .. }))
        .count();
    assert_eq!((issued, second.current().get().unwrap().generation().number()), (1, 2));

    // Of another type now, then deleted, then good again: the one before stays meanwhile.
    stage
        .write(
            "kv2/data/mail",
            written_as(json!({ "host": "h", "port": "hunter-three", "password": "hunter-three" })),
        )
        .await;
    let trouble = wait_until("the wrong type is told", SOON, || async {
        failures(&mut happened.lock().unwrap())
            .iter()
            .any(|event| format!("{event:?}").contains("`port` is not u16"))
    });
    trouble.await.unwrap();
    assert!(!format!("{:?}", second.health()).contains("hunter-three"));
    stage.testbed.openbao().request("DELETE", "kv2/data/mail", None).await.unwrap();
    wait_until("the deletion is told", SOON * 2, || async {
        failures(&mut happened.lock().unwrap())
            .iter()
            .any(|event| format!("{event:?}").contains("or was deleted"))
    })
    .await
    .unwrap();
    assert_eq!(password(&second), "hunter-two");
    assert!(second.health().is_usable());
    stage.write("kv2/data/mail", written_as(mail("hunter-four"))).await;
    wait_until("it is good again", MINUTE, || async { password(&second) == "hunter-four" }).await.unwrap();

    // Forbidden in the middle of it.
    stage.forbid("kv2/*").await;
    wait_until("the missing right is told", SOON, || async {
        failures(&mut happened.lock().unwrap())
            .iter()
            .any(|event| format!("{event:?}").contains("no `read` on kv2/data/mail"))
    })
    .await
    .unwrap();
    assert_eq!(password(&second), "hunter-four");

    // Reading the same again makes no generation.
    let before = first.current().get().unwrap().generation();
    let_pass(Duration::from_secs(3)).await;
    assert_eq!(first.current().get().unwrap().generation(), before);
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_wrapped_and_what_is_in_a_cubbyhole_can_be_had_once_and_by_nobody_else() {
    let stage = Stage::set().await;
    let bao = stage.testbed.openbao();
    let wrap = async |lasts: Duration| {
        Token::new(
            bao.request_wrapped("POST", "sys/wrapping/wrap", Some(mail("hunter2")), lasts).await.unwrap(),
        )
    };
    let wrapping = wrap(MINUTE).await;
    let unwrapped: Mail = leasehold_secrets::unwrap(&*stage.vault, &wrapping).await.unwrap();
    assert_eq!((unwrapped.host.as_str(), unwrapped.password.expose_secret()), ("mail.example", "hunter2"));
    let expired = wrap(Duration::from_secs(1)).await;
    let_pass(Duration::from_secs(2)).await;
    for wrapping in [wrapping, expired] {
        let error = leasehold_secrets::unwrap::<Mail>(&*stage.vault, &wrapping).await.unwrap_err();
        assert!(error.kind() == ErrorKind::LoginRefused && error.message().contains("stolen"), "{error}");
        assert!(!error.to_string().contains(wrapping.value().expose_secret()));
    }

    let token = stage.token().get().unwrap();
    let body = leasehold_core::Body::new().text("host", "h").number("port", 1).text("password", "hunter2");
    stage.vault.write(token.secret(), "cubbyhole/mail", body).await.unwrap();
    let hole = Kv::<Mail>::cubbyhole(stage.vault.clone(), stage.token(), "mail");
    assert_eq!(hole.issue().await.unwrap().secret.password.expose_secret(), "hunter2");
    let other = Keeper::start(kubernetes(&stage.testbed, &stage.vault)).await.unwrap();
    let theirs = Kv::<Mail>::cubbyhole(stage.vault.clone(), other.current(), "mail");
    assert_eq!(refusal(theirs, &["hunter2"]).await.kind(), ErrorKind::NotFound);
    other.shutdown().await.unwrap();
    stage.stop().await;
}

async fn make_authority(stage: &Stage) {
    stage.write("sys/mounts/pki", json!({ "type": "pki", "config": { "max_lease_ttl": "24h" } })).await;
    stage
        .write(
            "pki/root/generate/internal",
            json!({ "common_name": "Suite", "ttl": "24h", "key_type": "ec" }),
        )
        .await;
    let role = |generate_lease: bool| {
        json!({
            "allowed_domains": "example",
            "allow_subdomains": true,
            "key_type": "ec",
            "max_ttl": "60s",
            "generate_lease": generate_lease,
        })
    };
    stage.write("pki/roles/pipeline", role(false)).await;
    stage.write("pki/roles/leased", role(true)).await;
    stage.allow(&[("pki/issue/*", "\"update\"")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_reissued_before_it_expires() {
    let stage = Stage::set().await;
    make_authority(&stage).await;
    let pki = |role: &str, name: &str| Pki::new(stage.vault.clone(), stage.token(), role, name);
    for (login, kind, said) in [
        (pki("pipeline", "pipeline.elsewhere"), ErrorKind::Configuration, "pipeline.elsewhere"),
        (pki("nobody", "pipeline.example"), ErrorKind::NotFound, "unknown role"),
        (pki("pipeline", "pipeline.example").mount("nowhere"), ErrorKind::Denied, "nowhere/issue/pipeline"),
    ] {
        let error = refusal(login, &[]).await;
        assert!(error.kind() == kind && error.message().contains(said), "{error}");
    }
    let settings = Builder::new().drain_budget(Duration::from_secs(2));
    let certificate = pki("pipeline", "pipeline.example").ttl(Duration::from_secs(12));
    let certificate = settings.start(certificate).await.unwrap();
    let mut current = certificate.current();
    let mut serials = vec![current.get().unwrap().secret().serial_number().to_owned()];
    while serials.len() < 3 {
        let expires = current.get().unwrap().secret().expires();
        let next = current.changed().await.unwrap();
        assert!(SystemTime::now() < expires, "reissued in time");
        assert!(next.secret().certificate().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(next.secret().private_key().expose_secret().starts_with("-----BEGIN PRIVATE KEY-----"));
        serials.push(next.secret().serial_number().to_owned());
    }
    serials.dedup();
    assert_eq!(serials.len(), 3);
    certificate.shutdown().await.unwrap();

    // With a lease it is revoked when nothing uses it.
    let leased = Keeper::start(pki("leased", "leased.example")).await.unwrap();
    let serial = leased.current().get().unwrap().secret().serial_number().to_owned();
    leased.shutdown().await.unwrap();
    wait_until("it is revoked", SOON, || async {
        let path = format!("pki/cert/{serial}");
        let answer = stage.testbed.openbao().request("GET", &path, None).await.unwrap();
        answer["data"]["revocation_time"].as_u64().is_some_and(|at| at > 0)
    })
    .await
    .unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_lease_or_another_type_is_told_and_leaves_no_lease() {
    let stage = Stage::set().await;
    stage.write("sys/mounts/plain", json!({ "type": "kv" })).await;
    stage.write("plain/mail", mail("hunter2")).await;
    stage.allow(&[("plain/*", "\"read\"")]).await;
    let plain = Leased::<Mail>::read(stage.vault.clone(), stage.token(), "plain/mail");
    let error = refusal(plain, &["hunter2"]).await;
    assert!(error.message().contains("without a lease"), "{error}");
    let path = format!("database/creds/{}", stage.testbed.db_role());
    let wrong = Leased::<Mail>::read(stage.vault.clone(), stage.token(), &path);
    let error = refusal(wrong, &[]).await;
    assert!(error.message().contains("there is no field `host`"), "{error}");
    wait_until("its lease was revoked", SOON, || async {
        stage.testbed.openbao().leases().await.unwrap().is_empty()
    })
    .await
    .unwrap();
    stage.stop().await;
}

/// None of OpenBao's own plugins gives keys: a role of that type can be made, and is refused when it is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_role_whose_database_takes_no_keys_is_told() {
    let stage = Stage::set().await;
    stage.allow(&[("database/creds/keys", "\"read\"")]).await;
    stage.write("database/config/pipeline-db", json!({ "allowed_roles": ["pipeline", "keys"] })).await;
    let role = json!({ "db_name": "pipeline-db", "credential_type": "rsa_private_key" });
    stage.write("database/roles/keys", role).await;
    let keys = Leased::<KeyCredentials>::read(stage.vault.clone(), stage.token(), "database/creds/keys");
    let error = refusal(keys, &[]).await;
    assert!(
        error.kind() == ErrorKind::Configuration && error.message().contains("credential_type"),
        "{error}"
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vaultrs_with_the_current_token_does_what_has_no_provider() {
    let stage = Stage::set().await;
    stage.write("sys/mounts/transit", json!({ "type": "transit" })).await;
    stage.write("transit/keys/pipeline", json!({})).await;
    stage.allow(&[("transit/*", "\"update\"")]).await;
    let transit = stage.client.vaultrs(stage.token().get().unwrap()).unwrap();
    let sealed = vaultrs::transit::data::encrypt(&*transit, "transit", "pipeline", "aHVudGVyMg==", None)
        .await
        .unwrap();
    assert!(sealed.ciphertext.starts_with("vault:v1:") && !sealed.ciphertext.contains("aHVudGVyMg"));
    let opened = vaultrs::transit::data::decrypt(&*transit, "transit", "pipeline", &sealed.ciphertext, None)
        .await
        .unwrap();
    assert_eq!(opened.plaintext, "aHVudGVyMg==");
    assert!(!format!("{transit:?}").contains(stage.token().get().unwrap().secret().value().expose_secret()));
    drop(transit);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brokers_users_are_renewed_replaced_and_revoked_as_a_databases() {
    let lease_ttl = Duration::from_secs(3);
    let config = Config { rabbitmq: true, lease_ttl, lease_max_ttl: lease_ttl * 2, ..Config::default() };
    let stage = Stage::set_with(config).await;
    let rabbitmq = stage.testbed.rabbitmq().unwrap();
    let user = Leased::<Credentials>::read(stage.vault.clone(), stage.token(), &rabbitmq.path());
    let nobody = Leased::<Credentials>::read(stage.vault.clone(), stage.token(), "rabbitmq/creds/nobody");
    assert_eq!(refusal(nobody, &[]).await.kind(), ErrorKind::Denied);
    let user = Keeper::start(user).await.unwrap();
    let (mut current, mut happened, mut names) = (user.current(), user.events(), Vec::new());
    while names.len() < 3 {
        let issued = current.get().unwrap();
        let credentials = issued.secret();
        rabbitmq.log_in(credentials.username(), credentials.password().expose_secret()).await.unwrap();
        names.push(credentials.username().to_owned());
        drop(issued);
        current.changed().await.unwrap();
    }
    assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
    assert!(events(&mut happened).iter().any(|event| matches!(event, EventKind::Renewed { .. })));
    wait_until("only the current one is left", SOON, || async {
        let left = rabbitmq.dynamic_users().await.unwrap();
        left.len() == 1 && !names.contains(&left[0])
    })
    .await
    .unwrap();
    user.shutdown().await.unwrap();
    wait_until("none is left", SOON, || async { rabbitmq.dynamic_users().await.unwrap().is_empty() })
        .await
        .unwrap();
    stage.stop().await;
}
