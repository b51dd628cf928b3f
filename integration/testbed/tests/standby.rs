//! A standby of PostgreSQL, which hears of everything at once and does it later.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{connect, connect_at, credentials, eventually, lasting, log_in, start_with, value};
use leasehold_testbed::{Config, Standby, Testbed};
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

const HOUR: Duration = Duration::from_secs(3600);

async fn start(delay: Duration) -> Testbed {
    start_with(Config { standby: Some(delay), ..lasting() }).await
}

fn standby(testbed: &Testbed) -> &Standby {
    testbed.standby().unwrap()
}

async fn fresh(testbed: &Testbed) -> Value {
    let auth = log_in(testbed).await;
    credentials(testbed, auth["client_token"].as_str().unwrap()).await
}

/// As a row in the table that a service reads.
async fn measure(testbed: &Testbed, value: &str) {
    testbed.postgres().execute(&format!("INSERT INTO measurements (value) VALUES ({value})")).await.unwrap();
}

async fn measured(standby: &Standby, value: &str) -> bool {
    let sql = format!("SELECT id FROM measurements WHERE value = {value}");
    !standby.postgres().query(&sql).await.unwrap().is_empty()
}

#[tokio::test]
async fn users_come_and_go_there_later() {
    let delay = Duration::from_secs(3);
    let testbed = start(delay).await;
    let standby = standby(&testbed);
    assert!(standby.follows().await.unwrap());
    let began = Instant::now();
    let credentials = fresh(&testbed).await;
    let url = standby.url();
    let there = || connect_at(&url, &credentials);
    connect(&testbed, &credentials).await.unwrap();
    let refused = there().await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{refused:?}");
    eventually("the user has come", || async { there().await.is_ok() }).await;
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    let session = there().await.unwrap();
    assert_eq!(value(&session, "SELECT count(*) FROM measurements").await.unwrap(), "100");
    assert_eq!(value(&session, "SELECT pg_is_in_recovery()").await.unwrap(), "t");

    testbed.openbao().revoke_prefix("database/creds/pipeline").await.unwrap();
    assert!(connect(&testbed, &credentials).await.is_err());
    there().await.unwrap();
    standby.catch_up(testbed.postgres()).await.unwrap();
    assert!(there().await.is_err());
    let denied = session.simple_query("SELECT * FROM measurements").await.unwrap_err();
    assert_eq!(denied.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    let refused = standby.postgres().execute("CREATE ROLE somebody").await.unwrap_err().to_string();
    assert!(refused.contains("25006"), "it is read only: {refused}");
}

#[tokio::test]
async fn it_follows_again_after_it_was_away() {
    let testbed = start(Duration::ZERO).await;
    let standby = standby(&testbed);
    measure(&testbed, "1001").await;
    standby.catch_up(testbed.postgres()).await.unwrap();
    assert!(measured(standby, "1001").await);
    standby.postgres().kill().await.unwrap();
    measure(&testbed, "1002").await;
    standby.postgres().start_again().await.unwrap();
    standby.catch_up(testbed.postgres()).await.unwrap();
    assert!(measured(standby, "1002").await);
    testbed.postgres().kill().await.unwrap();
    assert!(measured(standby, "1001").await, "it can be read without its primary");
    testbed.postgres().start_again().await.unwrap();
    measure(&testbed, "1003").await;
    standby.catch_up(testbed.postgres()).await.unwrap();
    assert!(measured(standby, "1003").await);
}

#[tokio::test]
async fn promoted_it_has_all_that_it_heard_of_and_goes_its_own_way() {
    let testbed = start(HOUR).await;
    let standby = standby(&testbed);
    measure(&testbed, "2001").await;
    let credentials = fresh(&testbed).await;
    let heard = "SELECT pg_current_wal_insert_lsn() <= flush_lsn FROM pg_stat_replication";
    eventually("it has heard of it", || async {
        testbed.postgres().query(heard).await.unwrap() == [[Some("t".to_owned())]]
    })
    .await;
    assert!(!measured(standby, "2001").await);
    standby.promote().await.unwrap();
    assert!(!standby.follows().await.unwrap());
    assert!(measured(standby, "2001").await);
    connect_at(&standby.url(), &credentials).await.unwrap();
    standby.postgres().execute("INSERT INTO measurements (value) VALUES (2002)").await.unwrap();
    measure(&testbed, "2003").await;
    assert!(measured(standby, "2002").await && !measured(standby, "2003").await);
    let there = testbed.postgres().query("SELECT id FROM measurements WHERE value = 2002").await.unwrap();
    assert!(there.is_empty());
    standby.postgres().stop().await.unwrap();
    standby.postgres().start_again().await.unwrap();
    assert!(!standby.follows().await.unwrap(), "it stays a primary");
}
