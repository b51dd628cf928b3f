//! A PgBouncer in front of PostgreSQL, with the users that OpenBao makes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

mod common;

use common::{connect_at, credentials, eventually, lasting, log_in, start_with, user, value};
use leasehold_testbed::{Config, Image, Launcher, PgBouncer, PoolMode, Testbed};
use tokio_postgres::error::SqlState;

/// PgBouncer's own refusals, of a login among them.
const PROTOCOL_VIOLATION: &str = "08P01";

/// None where servers are containers and there is no image.
async fn start(mode: PoolMode) -> Option<Testbed> {
    if Launcher::from_env().unwrap() == Launcher::Containers
        && Image::PgBouncer.at_hand().await.unwrap().is_none()
    {
        eprintln!("skipped: there is no image of PgBouncer here");
        return None;
    }
    Some(start_with(Config { pgbouncer: Some(mode), ..lasting() }).await)
}

async fn fresh(testbed: &Testbed) -> serde_json::Value {
    let auth = log_in(testbed).await;
    credentials(testbed, auth["client_token"].as_str().unwrap()).await
}

fn pgbouncer(testbed: &Testbed) -> &PgBouncer {
    testbed.pgbouncer().unwrap()
}

#[tokio::test]
async fn a_session_has_a_connection_to_itself_until_it_ends() {
    let Some(testbed) = start(PoolMode::Session).await else { return };
    let pgbouncer = pgbouncer(&testbed);
    let version = pgbouncer.version().await.unwrap();
    eprintln!("{version}");
    assert!(version.starts_with("PgBouncer 1."), "{version}");
    assert_eq!(
        testbed.environment().iter().find(|(name, _)| name == "PGBOUNCER_URL").unwrap().1,
        pgbouncer.url()
    );
    let credentials = fresh(&testbed).await;
    let (name, _) = user(&credentials);

    let one = connect_at(&pgbouncer.url(), &credentials).await.unwrap();
    assert_eq!(value(&one, "SELECT session_user").await.unwrap(), name, "it comes in as the client's user");
    assert_eq!(value(&one, "SELECT count(*) FROM measurements").await.unwrap(), "100");
    let pid = value(&one, "SELECT pg_backend_pid()").await.unwrap();
    let other = connect_at(&pgbouncer.url(), &credentials).await.unwrap();
    assert_ne!(value(&other, "SELECT pg_backend_pid()").await.unwrap(), pid);
    assert_eq!(pgbouncer.connections_of(name).await.unwrap(), 2);
    drop((one, other));
    eventually("both connections are idle", || async {
        let servers = pgbouncer.order("SHOW SERVERS").await.unwrap();
        let of_user = servers.iter().filter(|row| row[1].as_deref() == Some(name));
        // The state is the fourth column of release 1.18, and the fifth of 1.26.
        let idle = of_user.filter(|row| row[3..5].contains(&Some("idle".to_owned())));
        idle.count() == 2
    })
    .await;
    // They are kept for the next who comes.
    let next = connect_at(&pgbouncer.url(), &credentials).await.unwrap();
    assert_eq!(value(&next, "SELECT 1").await.unwrap(), "1");
    assert_eq!(pgbouncer.connections_of(name).await.unwrap(), 2);
    assert_eq!(testbed.postgres().sessions_of(name).await.unwrap(), 2);
}

#[tokio::test]
async fn between_transactions_a_connection_serves_others() {
    let Some(testbed) = start(PoolMode::Transaction).await else { return };
    let pgbouncer = pgbouncer(&testbed);
    assert_eq!(pgbouncer.mode(), PoolMode::Transaction);
    let credentials = fresh(&testbed).await;
    let one = connect_at(&pgbouncer.url(), &credentials).await.unwrap();
    let other = connect_at(&pgbouncer.url(), &credentials).await.unwrap();
    let pid = value(&one, "SELECT pg_backend_pid()").await.unwrap();
    assert_eq!(value(&other, "SELECT pg_backend_pid()").await.unwrap(), pid);
    // What one of them sets is set for the other.
    one.simple_query("SET statement_timeout = 4321").await.unwrap();
    assert_eq!(value(&other, "SHOW statement_timeout").await.unwrap(), "4321ms");
    one.simple_query("BEGIN").await.unwrap();
    assert_eq!(value(&one, "SELECT pg_backend_pid()").await.unwrap(), pid);
    assert_ne!(value(&other, "SELECT pg_backend_pid()").await.unwrap(), pid, "it is in use");
}

/// pgbouncer/pgbouncer#423 and #563: the connections that it keeps outlive their user, and it refuses in words of its own.
#[tokio::test]
async fn a_revoked_user_goes_on_with_nothing_and_comes_in_no_more() {
    let Some(testbed) = start(PoolMode::Session).await else { return };
    let pgbouncer = pgbouncer(&testbed);
    let credentials = fresh(&testbed).await;
    let session = connect_at(&pgbouncer.url(), &credentials).await.unwrap();
    assert_eq!(value(&session, "SELECT count(*) FROM measurements").await.unwrap(), "100");
    testbed.openbao().revoke_prefix("database/creds/pipeline").await.unwrap();
    assert_eq!(value(&session, "SELECT 1").await.unwrap(), "1");
    let error = session.simple_query("SELECT * FROM measurements").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    let refused = connect_at(&pgbouncer.url(), &credentials).await.unwrap_err();
    let told = refused.as_db_error().unwrap();
    eprintln!("{told}");
    assert_eq!(told.code().code(), PROTOCOL_VIOLATION);
    assert!(
        told.message().contains("authentication failed") || told.message().contains("no such user"),
        "{told}"
    );

    let wrong = fresh(&testbed).await;
    let (name, _) = user(&wrong);
    let wrong = serde_json::json!({ "data": { "username": name, "password": "another" } });
    let refused = connect_at(&pgbouncer.url(), &wrong).await.unwrap_err();
    assert_eq!(refused.code().map(SqlState::code), Some(PROTOCOL_VIOLATION), "{refused:?}");
}

#[tokio::test]
async fn it_goes_and_comes_back() {
    let Some(testbed) = start(PoolMode::Session).await else { return };
    let pgbouncer = pgbouncer(&testbed);
    let credentials = fresh(&testbed).await;
    let (name, _) = user(&credentials);
    for end in ["kill", "stop"] {
        let session = connect_at(&pgbouncer.url(), &credentials).await.unwrap();
        assert_eq!(value(&session, "SELECT 1").await.unwrap(), "1");
        match end {
            "kill" => pgbouncer.kill().await.unwrap(),
            _ => pgbouncer.stop().await.unwrap(),
        }
        assert!(session.simple_query("SELECT 1").await.is_err());
        eventually("PostgreSQL has noticed", || async {
            testbed.postgres().sessions_of(name).await.unwrap() == 0
        })
        .await;
        pgbouncer.start_again().await.unwrap();
    }
    assert!(!format!("{testbed:?}").contains(testbed.openbao().root_token()));
    let error = pgbouncer.order("SHOW NONSENSE").await.unwrap_err().to_string();
    assert!(error.contains(PROTOCOL_VIOLATION), "{error}");
}
