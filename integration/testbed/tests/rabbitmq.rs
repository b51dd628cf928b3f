//! RabbitMQ beside PostgreSQL.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    fs::{read_dir, read_link, read_to_string},
    path::Path,
    time::Duration,
};

use common::{credentials_at, eventually, lasting, log_in, processes_in, refusal, start_with, user};
use leasehold_testbed::{Config, RabbitMq, RabbitMqSession, Testbed};
use serde_json::Value;
use tokio::time::timeout;

const ACCESS_REFUSED: &str = "403";
const CONNECTION_FORCED: &str = "320";

/// The queue that is there.
const QUEUE: &str = "measurements";

async fn start() -> Testbed {
    start_with(Config { rabbitmq: true, ..lasting() }).await
}

async fn credentials(testbed: &Testbed) -> Value {
    let auth = log_in(testbed).await;
    let path = testbed.rabbitmq().unwrap().path();
    credentials_at(testbed, &path, auth["client_token"].as_str().unwrap()).await
}

async fn connect(rabbitmq: &RabbitMq, credentials: &Value) -> leasehold_testbed::Result<RabbitMqSession> {
    let (user, password) = user(credentials);
    rabbitmq.log_in(user, password).await
}

#[tokio::test]
async fn credentials_are_good_for_one_thing_until_they_are_revoked() {
    let testbed = start().await;
    let rabbitmq = testbed.rabbitmq().unwrap();
    // A container's network is its own.
    if testbed.container_label().is_none() {
        is_reached_from_this_machine_only(rabbitmq);
    }
    let credentials = credentials(&testbed).await;
    let (user, _) = user(&credentials);
    assert_eq!(rabbitmq.dynamic_users().await.unwrap(), [user]);
    let lease = credentials["lease_id"].as_str().unwrap();
    assert_eq!(testbed.openbao().leases_at(&rabbitmq.path()).await.unwrap(), [lease]);
    assert_eq!(credentials["lease_duration"], 60);

    let session = connect(rabbitmq, &credentials).await.unwrap();
    assert_eq!(session.declare(QUEUE).await.unwrap(), 0);
    assert_eq!(session.declare("measurements-of-today").await.unwrap(), 0);
    assert_eq!(refusal(session.declare("secrets").await), ACCESS_REFUSED);
    assert_eq!(session.declare(QUEUE).await.unwrap(), 0);
    eventually("its connection is counted", || async { rabbitmq.sessions_of(user).await.unwrap() == 1 })
        .await;
    for user in ["guest", "vault_admin", user] {
        assert_eq!(refusal(rabbitmq.log_in(user, "").await), ACCESS_REFUSED, "{user}");
    }

    testbed.openbao().revoke_prefix(&rabbitmq.path()).await.unwrap();
    assert!(rabbitmq.dynamic_users().await.unwrap().is_empty());
    assert!(testbed.openbao().leases_at(&rabbitmq.path()).await.unwrap().is_empty());
    assert_eq!(refusal(connect(rabbitmq, &credentials).await), ACCESS_REFUSED);
    assert_eq!(refusal(session.declare(QUEUE).await), CONNECTION_FORCED);
    eventually("no connection is left", || async { rabbitmq.sessions_of(user).await.unwrap() == 0 }).await;
}

#[tokio::test]
async fn it_goes_and_comes_back() {
    let testbed = start().await;
    let rabbitmq = testbed.rabbitmq().unwrap();
    let credentials = credentials(&testbed).await;
    let session = connect(rabbitmq, &credentials).await.unwrap();

    rabbitmq.pause().await.unwrap();
    assert!(timeout(Duration::from_millis(300), session.declare(QUEUE)).await.is_err());
    rabbitmq.resume().await.unwrap();
    assert_eq!(session.declare(QUEUE).await.unwrap(), 0);

    rabbitmq.kill().await.unwrap();
    assert!(session.declare(QUEUE).await.is_err());
    let error = testbed.openbao().request("GET", &rabbitmq.path(), None).await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    rabbitmq.start_again().await.unwrap();
    // The user is not lost, nor is the queue.
    assert_eq!(connect(rabbitmq, &credentials).await.unwrap().declare(QUEUE).await.unwrap(), 0);
    testbed.openbao().revoke_prefix(&rabbitmq.path()).await.unwrap();
    assert!(rabbitmq.dynamic_users().await.unwrap().is_empty());
}

/// Nor has it anything to do with another Erlang of this machine.
fn is_reached_from_this_machine_only(rabbitmq: &RabbitMq) {
    let processes = processes_in(rabbitmq.folder());
    let sockets: Vec<String> = processes.iter().flat_map(|process| sockets_of(process)).collect();
    for port in [rabbitmq.port(), rabbitmq.management_port()] {
        assert!(sockets.contains(&format!("0100007F:{port:04X}")), "{sockets:?}");
    }
    assert!(sockets.iter().all(|address| address.starts_with("0100007F:")), "{sockets:?}");
}

/// The addresses of a process's ends of its sockets, as Linux writes them.
fn sockets_of(process: &str) -> Vec<String> {
    let process = Path::new("/proc").join(process);
    let files = read_dir(process.join("fd")).into_iter().flatten().flatten();
    let open: Vec<String> = files
        .filter_map(|file| {
            let link = read_link(file.path()).ok()?;
            Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
        })
        .collect();
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|table| process.join("net").join(table));
    let lines = tables.iter().filter_map(|table| read_to_string(table).ok()).collect::<String>();
    let rows = lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.get(9).is_some_and(|inode| open.iter().any(|open| open == inode)));
    ours.map(|row| row[1].to_owned()).collect()
}
