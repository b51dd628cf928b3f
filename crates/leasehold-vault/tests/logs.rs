//! What is logged, and what is not.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use leasehold_core::{Body, Vault};
use leasehold_vault::Client;
use serde_json::json;
use support::*;
use tracing::Level;
use wiremock::ResponseTemplate;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn failures_are_not_logged_at_error_and_secrets_not_at_all() {
    let log = Log::default();
    let guard = log.start();
    for answer in [
        envelope(json!({"data": {"password": "hunter2"}, "auth": {"client_token": "hvs.hunter2"}})),
        refusal(403, &["permission denied"]),
        refusal(503, &["Vault is sealed"]),
        refusal(400, &[&format!("{TOKEN} hunter2")]),
        ResponseTemplate::new(502).set_body_string("<html>hunter2</html>"),
        ResponseTemplate::new(200).set_body_string("hunter2"),
        ResponseTemplate::new(307).insert_header("location", "http://127.0.0.1:1/hunter2"),
        ResponseTemplate::new(200).set_delay(Duration::from_secs(60)),
    ] {
        let server = always(answer).await;
        let client = builder(&server).timeout(Duration::from_millis(200)).build().unwrap();
        let _ = client.read(&token(), "kv/x").await;
        let _ = client.login("auth/jwt/login", Body::new().text("jwt", "hunter2")).await;
    }
    let nobody = Client::builder().address("http://127.0.0.1:1").build().unwrap();
    let _ = nobody.read(&token(), "kv/x").await;
    let _ = nobody.read(&token(), "a//b").await;
    drop(guard);

    let text = log.text();
    let lines: Vec<_> =
        text.lines().filter(|line| line.contains("rustify") || line.contains("vault")).collect();
    assert!(lines.iter().any(|line| line.contains("rustify")), "the noise would be seen: {text}");
    for line in lines {
        assert!(
            !["ERROR", "WARN", "INFO"].iter().any(|level| line.contains(&format!(" {level} "))),
            "{line}"
        );
    }
    // In no crate's lines, reqwest's and hyper's included.
    assert!(!text.contains(TOKEN) && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn one_line_for_each_request() {
    let server = always(refusal(404, &[])).await;
    let client = client(&server);
    let log = Log::default();
    let guard = log.start();
    let _ = client.read(&token(), "kv/x").await;
    drop(guard);
    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("leasehold_vault")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    for part in ["DEBUG", "answered", "method=\"GET\"", "path=\"kv/x\"", "status=404", "elapsed="] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
}

#[tokio::test]
async fn a_warning_of_the_server_is_told_once() {
    let warned = envelope(json!({"data": {}, "warnings": [format!("TTL exceeded for {TOKEN}")]}));
    let server = always(warned).await;
    let client = client(&server);
    let log = Log::default();
    let guard = log.start();
    for _ in 0..3 {
        client.read(&token(), "kv/x").await.unwrap();
    }
    drop(guard);
    let text = log.text();
    let told = text.lines().filter(|line| line.contains("TTL exceeded"));
    let levels: Vec<_> = told.map(|line| line.contains(" INFO ")).collect();
    assert_eq!(levels, [true, false, false], "{text}");
    assert!(!text.contains(TOKEN));
}

#[test]
fn turning_verification_off_is_loud() {
    let log = Log::default();
    let guard = log.start();
    Client::builder().skip_verify(true).build().unwrap();
    drop(guard);
    assert!(
        log.text().lines().any(|line| line.contains(" WARN ") && line.contains("TLS verification is off"))
    );
}
