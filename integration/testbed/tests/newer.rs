//! Newer servers: each starts, says which version it is, and lets one user in whom OpenBao made. Where an image is not there,
//! there is nothing to test: `cargo testbed doctor` lists them. OpenBao's releases are fetched.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{
    client, connect, credentials, credentials_at, credentials_of, lasting, log_in, refusal, start_with, user,
};
use leasehold_testbed::{Config, Image, Launcher, Testbed, Version, Versions};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// Starts a testbed with a server of a version; `None` where its image is not there.
async fn start(image: Image, asked: &str, config: Config) -> Option<Testbed> {
    let choice = image.of(Some(version(asked)));
    if !matches!(choice.at_hand().await, Ok(Some(_))) {
        eprintln!("skipped: the image of {} is not here (`cargo testbed doctor`)", choice.name());
        return None;
    }
    Some(start_with(config).await)
}

async fn token(testbed: &Testbed) -> String {
    log_in(testbed).await["client_token"].as_str().unwrap().to_owned()
}

/// What a server says of itself is what was asked for.
fn is(asked: &str, said: &str) {
    assert!(version(asked).includes(said), "{said} is not {asked}");
    eprintln!("{said}");
}

async fn postgres(asked: &str) {
    let versions = Versions { postgres: Some(version(asked)), ..Versions::default() };
    let Some(testbed) = start(Image::Postgres, asked, Config { versions, ..lasting() }).await else { return };
    is(asked, &testbed.postgres().version().await.unwrap());
    let credentials = credentials(&testbed, &token(&testbed).await).await;
    let client = connect(&testbed, &credentials).await.unwrap();
    let row = client.query_one("SELECT count(*), session_user::text FROM measurements", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (100, user(&credentials).0));
    testbed.openbao().revoke_prefix("database/creds/pipeline").await.unwrap();
    assert!(testbed.postgres().dynamic_users().await.unwrap().is_empty());
}

#[tokio::test]
async fn postgres_17() {
    postgres("17").await;
}

#[tokio::test]
async fn postgres_18() {
    postgres("18").await;
}

#[tokio::test]
async fn mariadb_11_8() {
    let versions = Versions { mariadb: Some(version("11.8")), ..Versions::default() };
    let config = Config { mariadb: true, versions, ..lasting() };
    let Some(testbed) = start(Image::MariaDb, "11.8", config).await else { return };
    let mariadb = testbed.mariadb().unwrap();
    is("11.8", &mariadb.version().await.unwrap());
    let credentials = credentials_of(&testbed, mariadb.role(), &token(&testbed).await).await;
    let (user, password) = user(&credentials);
    let session = mariadb.log_in(user, password).await.unwrap();
    let count = session.query("SELECT count(*) FROM measurements").await.unwrap();
    assert_eq!(count, [[Some("100".to_owned())]]);
    // The classic statement still makes a user here.
    mariadb.execute("GRANT SELECT ON app.* TO 'somebody'@'%' IDENTIFIED BY 'a password'").await.unwrap();
    mariadb.log_in("somebody", "a password").await.unwrap();
}

#[tokio::test]
async fn mysql_9_7() {
    let versions = Versions { mysql: Some(version("9.7")), ..Versions::default() };
    let config = Config { mysql: true, versions, ..lasting() };
    let Some(testbed) = start(Image::MySql, "9.7", config).await else { return };
    let mysql = testbed.mysql().unwrap();
    is("9.7", &mysql.version().await.unwrap());
    let credentials = credentials_of(&testbed, mysql.role(), &token(&testbed).await).await;
    let (user, password) = user(&credentials);
    let session = mysql.log_in_with_tls(user, password).await.unwrap();
    let count = session.query("SELECT count(*) FROM measurements").await.unwrap();
    assert_eq!(count, [[Some("100".to_owned())]]);
}

async fn redis_of(testbed: &Testbed, redis: &leasehold_testbed::Redis, asked: &str) {
    is(asked, &redis.version().await.unwrap());
    let credentials = credentials_of(testbed, redis.role(), &token(testbed).await).await;
    let (user, password) = user(&credentials);
    assert_eq!(redis.dynamic_users().await.unwrap(), [user]);
    let session = redis.log_in(user, password).await.unwrap();
    assert_eq!(session.command(&["HGET", "measurements", "2"]).await.unwrap(), "0.2");
    assert_eq!(refusal(session.command(&["DEL", "measurements"]).await), "NOPERM");
    let path = format!("database/creds/{}", redis.role());
    testbed.openbao().revoke_prefix(&path).await.unwrap();
    assert!(session.command(&["PING"]).await.is_err());
}

#[tokio::test]
async fn redis_8_0() {
    let versions = Versions { redis: Some(version("8.0")), ..Versions::default() };
    let config = Config { redis: true, versions, ..lasting() };
    let Some(testbed) = start(Image::Redis, "8.0", config).await else { return };
    redis_of(&testbed, testbed.redis().unwrap(), "8.0").await;
}

async fn valkey(asked: &str) {
    let versions = Versions { valkey: Some(version(asked)), ..Versions::default() };
    let config = Config { valkey: true, versions, ..lasting() };
    let Some(testbed) = start(Image::Valkey, asked, config).await else { return };
    redis_of(&testbed, testbed.valkey().unwrap(), asked).await;
}

#[tokio::test]
async fn valkey_8_1() {
    valkey("8.1").await;
}

#[tokio::test]
async fn valkey_9_1() {
    valkey("9.1").await;
}

async fn rabbitmq(asked: &str) {
    let versions = Versions { rabbitmq: Some(version(asked)), ..Versions::default() };
    let config = Config { rabbitmq: true, versions, ..lasting() };
    let Some(testbed) = start(Image::RabbitMq, asked, config).await else { return };
    let rabbitmq = testbed.rabbitmq().unwrap();
    is(asked, &rabbitmq.version().await.unwrap());
    let credentials = credentials_at(&testbed, &rabbitmq.path(), &token(&testbed).await).await;
    let (user, password) = user(&credentials);
    let session = rabbitmq.log_in(user, password).await.unwrap();
    assert_eq!(session.declare("measurements").await.unwrap(), 0);
    assert_eq!(refusal(session.declare("secrets").await), "403");
    testbed.openbao().revoke_prefix(&rabbitmq.path()).await.unwrap();
    assert!(rabbitmq.dynamic_users().await.unwrap().is_empty());
}

#[tokio::test]
async fn rabbitmq_4_0() {
    rabbitmq("4.0").await;
}

#[tokio::test]
async fn rabbitmq_4_3() {
    rabbitmq("4.3").await;
}

/// What a release of OpenBao does otherwise than an earlier one.
struct Release {
    version: &'static str,
    /// 2.6.3 and 2.7.0: a token with a policy whose template renders a slash can do nothing at all.
    refuses_slashes: bool,
    /// 2.7.0: there is no LDAP in it any more, and names of certificates are what IDNA says that names are.
    is_2_7: bool,
    /// 2.6.4 and 2.7.1: a secret id of an `AppRole` is refused when its time is over, and not when somebody tidies up.
    refuses_late_secret_ids: bool,
}

#[tokio::test]
async fn openbao_2_6_1() {
    openbao(&Release {
        version: "2.6.1",
        refuses_slashes: false,
        is_2_7: false,
        refuses_late_secret_ids: false,
    })
    .await;
}

#[tokio::test]
async fn openbao_2_6_2() {
    openbao(&Release {
        version: "2.6.2",
        refuses_slashes: false,
        is_2_7: false,
        refuses_late_secret_ids: false,
    })
    .await;
}

#[tokio::test]
async fn openbao_2_7_0() {
    openbao(&Release {
        version: "2.7.0",
        refuses_slashes: true,
        is_2_7: true,
        refuses_late_secret_ids: false,
    })
    .await;
}

#[tokio::test]
async fn openbao_2_7_1() {
    openbao(&Release {
        version: "2.7.1",
        refuses_slashes: true,
        is_2_7: true,
        refuses_late_secret_ids: true,
    })
    .await;
}

#[tokio::test]
async fn openbao_2_7_2() {
    openbao(&Release {
        version: "2.7.2",
        refuses_slashes: true,
        is_2_7: true,
        refuses_late_secret_ids: true,
    })
    .await;
}

async fn openbao(release: &Release) {
    let versions = Versions { openbao: Some(version(release.version)), ..Versions::default() };
    let config = Config { versions, ..lasting() };
    // As a process it is fetched, and a container has to have its image.
    let testbed = if Launcher::from_env().unwrap() == Launcher::Processes {
        start_with(config).await
    } else {
        let Some(testbed) = start(Image::OpenBao, release.version, config).await else { return };
        testbed
    };
    let bao = testbed.openbao();
    is(release.version, &bao.version().await.unwrap());
    let credentials = credentials(&testbed, &token(&testbed).await).await;
    let client = connect(&testbed, &credentials).await.unwrap();
    let row = client.query_one("SELECT count(*) FROM measurements", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 100);

    let enabled = bao.request("POST", "sys/auth/ldap", Some(json!({ "type": "ldap" }))).await;
    assert_eq!(enabled.is_err(), release.is_2_7, "{enabled:?}");
    let issued = with_a_dot_at_the_end(&testbed).await;
    assert_eq!(issued.is_err(), release.is_2_7, "{:?}", issued.map(drop));
    let late = with_a_late_secret_id(&testbed).await;
    assert_eq!(late.is_err(), release.refuses_late_secret_ids, "{:?}", late.map(drop));
    let (status, answer) = with_a_slash_in_a_policy(&testbed).await;
    assert_eq!(status, if release.refuses_slashes { 400 } else { 200 }, "{answer}");
    if release.refuses_slashes {
        assert_eq!(answer["errors"][0].as_str().unwrap().to_lowercase(), "forbidden");
    }
}

/// What a token may learn about itself that has a policy whose template renders `namespace/name`.
async fn with_a_slash_in_a_policy(testbed: &Testbed) -> (u16, Value) {
    let bao = testbed.openbao();
    let mount = testbed.kubernetes_mount();
    let mounts = bao.request("GET", "sys/auth", None).await.unwrap();
    let accessor = mounts["data"][format!("{mount}/")]["accessor"].as_str().unwrap();
    let name = format!("{{{{identity.entity.aliases.{accessor}.name}}}}");
    let policy = format!(r#"path "secret/{name}" {{ capabilities = ["read"] }}"#);
    bao.request("PUT", "sys/policies/acl/templated", Some(json!({ "policy": policy }))).await.unwrap();
    let path = format!("auth/{mount}/role/{}", testbed.role());
    let mut role = bao.request("GET", &path, None).await.unwrap()["data"].take();
    role["alias_name_source"] = "serviceaccount_name".into();
    role["token_policies"] = json!([testbed.role(), "templated"]);
    bao.request("POST", &path, Some(role)).await.unwrap();
    let url = format!("{}/v1/auth/token/lookup-self", bao.address());
    let asked = client().get(url).header("X-Vault-Token", token(testbed).await).send().await.unwrap();
    (asked.status().as_u16(), asked.json().await.unwrap())
}

/// A certificate for a name as DNS has it in full.
async fn with_a_dot_at_the_end(testbed: &Testbed) -> leasehold_testbed::Result<Value> {
    let bao = testbed.openbao();
    bao.request("POST", "sys/mounts/pki", Some(json!({ "type": "pki" }))).await?;
    let root = json!({ "common_name": "an authority", "ttl": "24h" });
    bao.request("POST", "pki/root/generate/internal", Some(root)).await?;
    bao.request("POST", "pki/roles/any", Some(json!({ "allow_any_name": true, "max_ttl": "1h" }))).await?;
    bao.request("POST", "pki/issue/any", Some(json!({ "common_name": "db.example.com.", "ttl": "1h" }))).await
}

/// A login by a secret id whose second is over.
async fn with_a_late_secret_id(testbed: &Testbed) -> leasehold_testbed::Result<Value> {
    let bao = testbed.openbao();
    bao.request("POST", "sys/auth/approle", Some(json!({ "type": "approle" }))).await?;
    let role = json!({ "token_policies": ["default"], "secret_id_ttl": "1s" });
    bao.request("POST", "auth/approle/role/job", Some(role)).await?;
    let role = bao.request("GET", "auth/approle/role/job/role-id", None).await?;
    let secret = bao.request("POST", "auth/approle/role/job/secret-id", Some(json!({}))).await?;
    sleep_until(Instant::now() + Duration::from_millis(2_500)).await;
    let login = json!({ "role_id": role["data"]["role_id"], "secret_id": secret["data"]["secret_id"] });
    bao.request("POST", "auth/approle/login", Some(login)).await
}
