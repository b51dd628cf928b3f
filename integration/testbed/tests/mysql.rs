//! MySQL beside PostgreSQL. It is a container; where its image is not there, there is nothing to test.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

mod common;

use std::{fs::read_to_string, time::Duration};

use common::{credentials_of, eventually, lasting, log_in, refusal, start_with, user};
use leasehold_testbed::{Config, Image, MySql, Testbed};
use serde_json::{Value, json};
use tokio::time::timeout;

const ACCESS_DENIED: &str = "1045";
const COMMAND_DENIED: &str = "1142";
const SYNTAX_ERROR: &str = "1064";

async fn start() -> Option<Testbed> {
    if !matches!(Image::MySql.at_hand().await, Ok(Some(_))) {
        eprintln!("skipped: MySQL's image is not here (`cargo testbed images mysql`)");
        return None;
    }
    Some(start_with(Config { mysql: true, ..lasting() }).await)
}

async fn credentials(testbed: &Testbed) -> Value {
    let auth = log_in(testbed).await;
    let role = testbed.mysql().unwrap().role();
    credentials_of(testbed, role, auth["client_token"].as_str().unwrap()).await
}

async fn rows(mysql: &MySql, credentials: &Value) -> leasehold_testbed::Result<Vec<Vec<Option<String>>>> {
    let (user, password) = user(credentials);
    mysql.log_in(user, password).await?.query("SELECT count(*) FROM measurements").await
}

#[tokio::test]
async fn credentials_are_good_with_tls_and_without() {
    let Some(testbed) = start().await else { return };
    let mysql = testbed.mysql().unwrap();
    let credentials = credentials(&testbed).await;
    let (user, password) = user(&credentials);
    assert_eq!(mysql.dynamic_users().await.unwrap(), [user]);
    let lease = credentials["lease_id"].as_str().unwrap();
    assert_eq!(testbed.openbao().leases_of(mysql.role()).await.unwrap(), [lease]);
    let plugin = format!("SELECT plugin FROM mysql.user WHERE user = '{user}'");
    assert_eq!(mysql.query(&plugin).await.unwrap(), [[Some("caching_sha2_password".to_owned())]]);

    // The first login shows the password, the second is by the hash that the server keeps now; in either way.
    let cipher = "SHOW STATUS LIKE 'Ssl_cipher'";
    for _ in 0..2 {
        let plain = mysql.log_in(user, password).await.unwrap();
        assert_eq!(plain.query(cipher).await.unwrap()[0][1].as_deref(), Some(""));
        let private = mysql.log_in_with_tls(user, password).await.unwrap();
        assert!(private.query(cipher).await.unwrap()[0][1].as_deref().unwrap().contains("AES"));
        assert_eq!(
            private.query("SELECT count(*) FROM measurements").await.unwrap(),
            [[Some("100".to_owned())]]
        );
        assert_eq!(refusal(private.query("DELETE FROM measurements").await), COMMAND_DENIED);
        assert_eq!(mysql.sessions_of(user).await.unwrap(), 2);
        drop((plain, private));
        eventually("no session is left", || async { mysql.sessions_of(user).await.unwrap() == 0 }).await;
        // What it knows of its users is forgotten, and so they show their passwords again.
        mysql.execute("FLUSH PRIVILEGES").await.unwrap();
    }
    let refused = [mysql.log_in(user, "wrong").await, mysql.log_in_with_tls(user, "wrong").await];
    assert_eq!(refused.map(refusal), [ACCESS_DENIED; 2]);
}

/// As on MariaDB: what a session may do in a database was decided when it named it.
#[tokio::test]
async fn revocation_closes_no_session() {
    let Some(testbed) = start().await else { return };
    let mysql = testbed.mysql().unwrap();
    let credentials = credentials(&testbed).await;
    let (user, password) = user(&credentials);
    let session = mysql.log_in(user, password).await.unwrap();
    testbed.openbao().revoke_prefix(&format!("database/creds/{}", mysql.role())).await.unwrap();

    assert!(mysql.dynamic_users().await.unwrap().is_empty());
    assert_eq!(refusal(rows(mysql, &credentials).await), ACCESS_DENIED);
    let count = session.query("SELECT count(*) FROM measurements").await.unwrap();
    assert_eq!(count, [[Some("100".to_owned())]]);
    assert_eq!(mysql.orphaned_sessions().await.unwrap(), 1);
    drop(session);
    eventually("the session ends with its connection", || async {
        mysql.orphaned_sessions().await.unwrap() == 0
    })
    .await;
}

#[tokio::test]
async fn a_static_role_replaces_the_password() {
    let Some(testbed) = start().await else { return };
    let (mysql, openbao) = (testbed.mysql().unwrap(), testbed.openbao());
    let auth = log_in(&testbed).await;
    let path = format!("database/static-creds/{}", mysql.static_role());
    let read = || common::credentials_at(&testbed, &path, auth["client_token"].as_str().unwrap());
    let before = read().await;
    assert_eq!(user(&before).0, mysql.static_user());
    let session = mysql.log_in_with_tls(user(&before).0, user(&before).1).await.unwrap();

    openbao.request("POST", &format!("database/rotate-role/{}", mysql.static_role()), None).await.unwrap();
    let after = read().await;
    assert_ne!(user(&after).1, user(&before).1);
    rows(mysql, &after).await.unwrap();
    assert_eq!(refusal(rows(mysql, &before).await), ACCESS_DENIED);
    session.query("SELECT count(*) FROM measurements").await.unwrap();
}

#[tokio::test]
async fn the_classic_statement_is_refused() {
    let Some(testbed) = start().await else { return };
    let (mysql, openbao) = (testbed.mysql().unwrap(), testbed.openbao());
    let classic = "GRANT SELECT ON app.* TO 'somebody'@'%' IDENTIFIED BY 'a password'";
    assert_eq!(refusal(mysql.query(classic).await), SYNTAX_ERROR);
    let body = json!({
        "db_name": mysql.role(),
        "creation_statements": ["GRANT SELECT ON app.* TO '{{name}}'@'%' IDENTIFIED BY '{{password}}'"],
    });
    let role = format!("database/roles/{}", mysql.role());
    openbao.request("POST", &role, Some(body)).await.unwrap();
    let path = format!("database/creds/{}", mysql.role());
    let error = openbao.request("GET", &path, None).await.unwrap_err().to_string();
    assert!(error.contains("500") && error.contains(SYNTAX_ERROR), "{error}");
    assert!(mysql.dynamic_users().await.unwrap().is_empty());
}

/// OpenBao's own connection: without TLS it is as in all of these tests.
#[tokio::test]
async fn openbao_comes_in_with_tls() {
    let Some(testbed) = start().await else { return };
    let (mysql, openbao) = (testbed.mysql().unwrap(), testbed.openbao());
    mysql
        .execute("CREATE USER 'with_tls'@'%' IDENTIFIED BY 'until it is rotated' REQUIRE SSL")
        .await
        .unwrap();
    mysql.execute("GRANT CREATE USER ON *.* TO 'with_tls'@'%'").await.unwrap();
    mysql.execute("GRANT SELECT ON app.* TO 'with_tls'@'%' WITH GRANT OPTION").await.unwrap();
    assert_eq!(refusal(mysql.log_in("with_tls", "until it is rotated").await), ACCESS_DENIED);
    let authority = read_to_string(&mysql.certificates().authority).unwrap();
    let connection = json!({
        "plugin_name": "mysql-database-plugin",
        "connection_url": format!("{{{{username}}}}:{{{{password}}}}@tcp(127.0.0.1:{})/", mysql.port()),
        "username": "with_tls",
        "password": "until it is rotated",
        "tls_ca": authority,
        "allowed_roles": ["*"],
    });
    openbao.request("POST", "database/config/with-tls", Some(connection)).await.unwrap();
    let role = json!({
        "db_name": "with-tls",
        "creation_statements": ["CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'", "GRANT SELECT ON app.* TO '{{name}}'@'%'"],
        "revocation_statements": ["DROP USER IF EXISTS '{{name}}'@'%'"],
    });
    openbao.request("POST", "database/roles/with-tls", Some(role)).await.unwrap();
    let issued = openbao.request("GET", "database/creds/with-tls", None).await.unwrap();
    rows(mysql, &issued).await.unwrap();
}

#[tokio::test]
async fn it_goes_and_comes_back() {
    let Some(testbed) = start().await else { return };
    let mysql = testbed.mysql().unwrap();
    let credentials = credentials(&testbed).await;
    let (user, password) = user(&credentials);
    let session = mysql.log_in(user, password).await.unwrap();

    mysql.pause().await.unwrap();
    assert!(timeout(Duration::from_millis(300), session.query("SELECT 1")).await.is_err());
    mysql.resume().await.unwrap();
    session.query("SELECT 1").await.unwrap();

    mysql.kill().await.unwrap();
    assert!(session.query("SELECT 1").await.is_err());
    let path = format!("database/creds/{}", mysql.role());
    let error = testbed.openbao().request("GET", &path, None).await.unwrap_err().to_string();
    assert!(error.contains("500"), "{error}");
    mysql.start_again().await.unwrap();
    // The user is not lost.
    rows(mysql, &credentials).await.unwrap();

    mysql.stop().await.unwrap();
    mysql.start_again().await.unwrap();
    rows(mysql, &credentials).await.unwrap();
    for user in ["root", "", "vault_admin", "reporter", "mysql.sys"] {
        assert_eq!(refusal(mysql.log_in(user, "").await), ACCESS_DENIED, "{user}");
    }
}
