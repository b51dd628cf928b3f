//! MariaDB beside PostgreSQL.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{credentials_of, lasting, log_in, refusal, start_with, user};
use leasehold_testbed::{Config, MariaDb, MariaDbSession, Testbed};
use serde_json::{Value, json};
use tokio::time::timeout;

const ACCESS_DENIED: &str = "1045";
const ACCESS_DENIED_TO_DATABASE: &str = "1044";
const COMMAND_DENIED: &str = "1142";
const NO_SUCH_GRANT: &str = "1141";

async fn start() -> Testbed {
    start_with(Config { mariadb: true, ..lasting() }).await
}

async fn credentials(testbed: &Testbed) -> Value {
    let auth = log_in(testbed).await;
    let role = testbed.mariadb().unwrap().role();
    credentials_of(testbed, role, auth["client_token"].as_str().unwrap()).await
}

async fn connect(mariadb: &MariaDb, credentials: &Value) -> leasehold_testbed::Result<MariaDbSession> {
    let (user, password) = user(credentials);
    mariadb.log_in(user, password).await
}

async fn count(session: &MariaDbSession) -> Option<String> {
    session.query("SELECT count(*) FROM measurements").await.unwrap()[0][0].clone()
}

/// Gives the role other statements.
async fn role(testbed: &Testbed, creation: &[&str], revocation: &[&str]) {
    let role = testbed.mariadb().unwrap().role();
    let body = json!({
        "db_name": role,
        "creation_statements": creation,
        "revocation_statements": revocation,
        "default_ttl": 60,
        "max_ttl": 60,
    });
    testbed.openbao().request("POST", &format!("database/roles/{role}"), Some(body)).await.unwrap();
}

async fn revoke(testbed: &Testbed) {
    let prefix = format!("database/creds/{}", testbed.mariadb().unwrap().role());
    testbed.openbao().revoke_prefix(&prefix).await.unwrap();
}

#[tokio::test]
async fn credentials_read_and_nothing_else() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let credentials = credentials(&testbed).await;
    let (user, _) = user(&credentials);
    assert_eq!(mariadb.dynamic_users().await.unwrap(), [user]);
    let lease = credentials["lease_id"].as_str().unwrap();
    assert_eq!(testbed.openbao().leases_of(mariadb.role()).await.unwrap(), [lease]);
    assert!(testbed.openbao().leases().await.unwrap().is_empty());

    let session = connect(mariadb, &credentials).await.unwrap();
    assert_eq!(mariadb.sessions_of(user).await.unwrap(), 1);
    assert_eq!(count(&session).await.as_deref(), Some("100"));
    let rows = session.query("SELECT id, value, NULL FROM measurements ORDER BY id LIMIT 2").await.unwrap();
    assert_eq!(rows[1], [Some("2".into()), Some("0.2".into()), None]);
    assert_eq!(refusal(session.query("DELETE FROM measurements").await), COMMAND_DENIED);
    assert_eq!(refusal(session.query("CREATE TABLE mine (id int)").await), COMMAND_DENIED);
    assert_eq!(count(&session).await.as_deref(), Some("100"));
}

#[tokio::test]
async fn revocation_closes_no_session_and_takes_no_rights_from_it() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let credentials = credentials(&testbed).await;
    let session = connect(mariadb, &credentials).await.unwrap();
    revoke(&testbed).await;

    assert!(mariadb.dynamic_users().await.unwrap().is_empty());
    assert_eq!(refusal(connect(mariadb, &credentials).await), ACCESS_DENIED);
    // What it may do was decided when it logged in; `USE` and `SHOW GRANTS` look again.
    assert_eq!(count(&session).await.as_deref(), Some("100"));
    assert_eq!(refusal(session.query("USE app").await), ACCESS_DENIED_TO_DATABASE);
    assert_eq!(refusal(session.query("SHOW GRANTS").await), NO_SUCH_GRANT);
    assert_eq!(mariadb.sessions_of(user(&credentials).0).await.unwrap(), 1);
    assert_eq!(mariadb.orphaned_sessions().await.unwrap(), 1);
    drop(session);
    common::eventually("the session ends with its connection", || async {
        mariadb.orphaned_sessions().await.unwrap() == 0
    })
    .await;
}

/// A prefix is a whole segment of a path: PostgreSQL's role begins like MariaDB's.
#[tokio::test]
async fn revoking_postgresql_leaves_mariadb_alone() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let credentials = credentials(&testbed).await;
    testbed.openbao().revoke_prefix("database/creds/pipeline").await.unwrap();
    connect(mariadb, &credentials).await.unwrap();
}

#[tokio::test]
async fn nobody_comes_in_without_a_password() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    for user in ["root", "", "vault_admin", "mariadb.sys"] {
        assert_eq!(refusal(mariadb.log_in(user, "").await), ACCESS_DENIED, "{user}");
    }
    let anonymous = "SELECT host FROM mysql.global_priv WHERE user = '' AND host <> ''";
    assert!(mariadb.query(anonymous).await.unwrap().is_empty());
    let root = mariadb.query("SELECT host FROM mysql.global_priv WHERE user = 'root'").await.unwrap();
    // Through the socket of a process, or over TCP into a container: in one way only.
    let way = if testbed.container_label().is_some() { "%" } else { "localhost" };
    assert_eq!(root, [[Some(way.to_owned())]]);
}

#[tokio::test]
async fn it_goes_and_comes_back() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let credentials = credentials(&testbed).await;
    let session = connect(mariadb, &credentials).await.unwrap();

    mariadb.pause().await.unwrap();
    assert!(timeout(Duration::from_millis(300), count(&session)).await.is_err());
    mariadb.resume().await.unwrap();
    assert_eq!(count(&session).await.as_deref(), Some("100"));

    mariadb.kill().await.unwrap();
    assert!(session.query("SELECT 1").await.is_err());
    mariadb.start_again().await.unwrap();
    // The user is not lost: it was in a file before its credentials were handed out.
    let session = connect(mariadb, &credentials).await.unwrap();
    assert_eq!(count(&session).await.as_deref(), Some("100"));

    mariadb.stop().await.unwrap();
    assert!(session.query("SELECT 1").await.is_err());
    let error = mariadb.query("SELECT 1").await.unwrap_err().to_string();
    assert!(error.contains("a login of root"), "{error}");
    mariadb.start_again().await.unwrap();
    connect(mariadb, &credentials).await.unwrap();
}

#[tokio::test]
async fn a_role_can_limit_connections_and_close_them() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let create = "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}' WITH MAX_USER_CONNECTIONS 2";
    let grant = "GRANT SELECT ON app.* TO '{{name}}'@'%'";
    role(&testbed, &[create, grant], &["DROP USER '{{name}}'@'%'", "KILL USER '{{name}}'"]).await;
    let credentials = credentials(&testbed).await;
    let sessions =
        [connect(mariadb, &credentials).await.unwrap(), connect(mariadb, &credentials).await.unwrap()];
    assert_eq!(refusal(connect(mariadb, &credentials).await), "1226");
    revoke(&testbed).await;
    common::eventually("no session is left", || async { mariadb.orphaned_sessions().await.unwrap() == 0 })
        .await;
    for session in sessions {
        assert!(session.query("SELECT 1").await.is_err());
    }
}

/// Rights to a database are held by the session; rights to a table are looked up for every statement.
#[tokio::test]
async fn revocation_takes_rights_to_a_table_from_an_open_session() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    let create = "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'";
    let grant = "GRANT SELECT ON app.measurements TO '{{name}}'@'%'";
    role(&testbed, &[create, grant], &["DROP USER '{{name}}'@'%'"]).await;
    let session = connect(mariadb, &credentials(&testbed).await).await.unwrap();
    assert_eq!(count(&session).await.as_deref(), Some("100"));
    revoke(&testbed).await;
    session.query("SELECT 1").await.unwrap();
    assert_eq!(refusal(session.query("SELECT count(*) FROM measurements").await), COMMAND_DENIED);
}

/// What whoever asks for credentials is told when the database is not there.
#[tokio::test]
async fn openbao_says_that_it_is_down() {
    let testbed = start().await;
    let mariadb = testbed.mariadb().unwrap();
    mariadb.kill().await.unwrap();
    let path = format!("database/creds/{}", mariadb.role());
    let error = testbed.openbao().request("GET", &path, None).await.unwrap_err().to_string();
    assert!(error.contains("500") && error.contains("connection refused"), "{error}");
    mariadb.start_again().await.unwrap();
    testbed.openbao().request("GET", &path, None).await.unwrap();
}
