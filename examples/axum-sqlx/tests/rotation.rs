//! How to test your own service against credentials that rotate: as it is deployed, on real servers.
//!
//! `cargo test --package axum-sqlx` runs it on processes, `LEASEHOLD_LAUNCHER=containers cargo test ...` on containers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::{collections::HashSet, process::Stdio, time::Duration};

use leasehold_testbed::{Config, Testbed};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, interval, timeout},
};

/// A minute of production in a few seconds: users that live 4 s, under tokens of 8 s.
fn config() -> Config {
    Config {
        lease_ttl: Duration::from_secs(2),
        lease_max_ttl: Duration::from_secs(4),
        token_ttl: Duration::from_secs(4),
        token_max_ttl: Duration::from_secs(8),
        ..Config::default()
    }
}

#[tokio::test]
async fn no_request_fails_while_its_users_come_and_go() {
    let testbed = Testbed::start(config()).await.unwrap();
    let service = Service::start(&testbed).await;
    let mut users = HashSet::new();
    let mut ticks = interval(Duration::from_millis(20));
    let deadline = Instant::now() + Duration::from_secs(60);
    while users.len() < 4 {
        assert!(Instant::now() < deadline, "only {users:?} in a minute");
        ticks.tick().await;
        let answer = service.get("/").await;
        assert_eq!(answer["rows"], 100, "{answer}");
        users.insert(answer["user"].as_str().unwrap().to_owned());
    }
}

#[tokio::test]
async fn an_outage_shorter_than_the_lease_is_told_and_not_felt() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let service = Service::start(&testbed).await;
    testbed.openbao().kill().await.unwrap();
    service.until("degraded", |ready| ready["degraded"].is_string()).await;
    assert_eq!(service.get("/").await["rows"], 100);
    testbed.openbao().start_again().await.unwrap();
    service.until("healthy again", |ready| ready["degraded"].is_null()).await;
    assert_eq!(service.get("/").await["rows"], 100);
}

#[tokio::test]
async fn a_service_that_is_stopped_gives_everything_back() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let service = Service::start(&testbed).await;
    assert_eq!(testbed.postgres().dynamic_users().await.unwrap().len(), 1);
    service.stop().await;
    assert_eq!(testbed.openbao().leases().await.unwrap(), [""; 0]);
    assert_eq!(testbed.openbao().tokens().await.unwrap(), [""; 0]);
    assert_eq!(testbed.postgres().dynamic_users().await.unwrap(), [""; 0]);
}

/// The service's own program, killed with the test.
struct Service {
    program: Child,
    address: String,
    client: reqwest::Client,
}

impl Service {
    /// Starts it with the environment that a deployment would give it, and waits until it listens.
    async fn start(testbed: &Testbed) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_axum-sqlx"))
            .envs(testbed.environment())
            .env("LISTEN", "127.0.0.1:0")
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it ended instead of listening");
                if let Some((_, address)) = line.split_once("listening address=") {
                    return format!("http://{}", address.trim());
                }
            }
        };
        let address = timeout(Duration::from_secs(30), listening).await.unwrap();
        // What nobody reads would stop it once the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { program, address, client }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.address)).send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until its readiness says something, which it must say while it is ready.
    async fn until(&self, what: &str, says: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut ticks = interval(Duration::from_millis(50));
        while Instant::now() < deadline {
            ticks.tick().await;
            if says(&self.get("/health/ready").await) {
                return;
            }
        }
        panic!("never {what}");
    }

    /// Stops it as Kubernetes does.
    async fn stop(mut self) {
        let pid = Pid::from_raw(self.program.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = timeout(Duration::from_secs(20), self.program.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "{ended}");
    }
}
