#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests")]

use std::{future::Future, path::Path, process::Command, time::Duration};

use leasehold_testbed::{Claims, Config, Testbed};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep_until};
use tokio_postgres::NoTls;

pub(crate) async fn start() -> Testbed {
    start_with(Config::default()).await
}

pub(crate) async fn start_with(config: Config) -> Testbed {
    Testbed::start(Config { report: |text| eprintln!("{text}"), ..config }).await.unwrap()
}

/// With every database there is.
pub(crate) async fn start_all() -> Testbed {
    start_with(Config { mariadb: true, redis: true, ..lasting() }).await
}

/// Tokens and credentials that outlast a test.
pub(crate) fn lasting() -> Config {
    let minute = Duration::from_secs(60);
    Config {
        lease_ttl: minute,
        lease_max_ttl: minute,
        token_ttl: minute,
        token_max_ttl: minute,
        ..Config::default()
    }
}

/// The one value that a query returns, as text.
pub(crate) async fn value(
    client: &tokio_postgres::Client,
    sql: &str,
) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = messages.into_iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(row.unwrap())
}

/// Lets time pass where there is no condition to wait for.
pub(crate) async fn let_pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// Waits for a condition of the servers.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    eventually_within(Duration::from_secs(15), what, condition).await;
}

/// As [`eventually`], for what may take longer.
pub(crate) async fn eventually_within<F: Future<Output = bool>>(
    bound: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let deadline = Instant::now() + bound;
    let mut ticks = interval(Duration::from_millis(20));
    while Instant::now() < deadline {
        ticks.tick().await;
        if condition().await {
            return;
        }
    }
    panic!("never: {what}");
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

pub(crate) async fn log_in_with(testbed: &Testbed, jwt: &str) -> Response {
    let url = format!("{}/v1/auth/{}/login", testbed.openbao().address(), testbed.kubernetes_mount());
    client().post(url).json(&json!({ "role": testbed.role(), "jwt": jwt })).send().await.unwrap()
}

pub(crate) async fn log_in_as(testbed: &Testbed, claims: &Claims) -> Response {
    log_in_with(testbed, &testbed.service_account().token(claims).unwrap()).await
}

pub(crate) async fn log_in(testbed: &Testbed) -> Value {
    let answer =
        log_in_with(testbed, &std::fs::read_to_string(testbed.service_account().token_path()).unwrap()).await;
    let status = answer.status();
    let body = answer.text().await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["auth"].clone()
}

pub(crate) async fn credentials(testbed: &Testbed, token: &str) -> Value {
    credentials_of(testbed, testbed.db_role(), token).await
}

/// Asks for credentials of a role of the engine `database`.
pub(crate) async fn credentials_of(testbed: &Testbed, role: &str, token: &str) -> Value {
    credentials_at(testbed, &format!("database/creds/{role}"), token).await
}

/// Asks for credentials at a path.
pub(crate) async fn credentials_at(testbed: &Testbed, path: &str, token: &str) -> Value {
    let url = format!("{}/v1/{path}", testbed.openbao().address());
    let answer = client().get(url).header("X-Vault-Token", token).send().await.unwrap();
    let status = answer.status();
    let body = answer.text().await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The user's name and password.
pub(crate) fn user(credentials: &Value) -> (&str, &str) {
    let text = |name: &str| credentials["data"][name].as_str().unwrap();
    (text("username"), text("password"))
}

/// The status of an answer that was an error.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: leasehold_testbed::Result<T>) -> String {
    match answer {
        Err(leasehold_testbed::Error::Answer { status, .. }) => status,
        other => panic!("no refusal: {other:?}"),
    }
}

pub(crate) async fn connect(
    testbed: &Testbed,
    credentials: &Value,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    connect_at(testbed.database_url(), credentials).await
}

/// Opens a session at another address than PostgreSQL's own.
pub(crate) async fn connect_at(
    url: &str,
    credentials: &Value,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.user(credentials["data"]["username"].as_str().unwrap());
    config.password(credentials["data"]["password"].as_str().unwrap());
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The processes that work in a folder, there or deleted.
pub(crate) fn processes_in(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| {
            let cwd = std::fs::read_link(process.path().join("cwd")).ok()?;
            cwd.to_str()?
                .starts_with(folder.to_str()?)
                .then(|| process.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

/// What the engine's command-line client writes, line by line.
pub(crate) fn docker(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn containers_of(label: &str) -> Vec<String> {
    docker(&["ps", "--all", "--quiet", "--filter", &format!("label={label}")])
}

/// The labels that reapers with a folder in this one were told.
pub(crate) fn labels_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let commands = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    let told = |line: String| {
        let mut words = line.split('\0');
        words.find(|word| word.starts_with("com.leasehold.testbed=")).map(str::to_owned)
    };
    commands.filter(|line| line.contains(folder)).filter_map(told).collect()
}
