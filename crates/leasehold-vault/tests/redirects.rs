//! The token goes to our own addresses only.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod support;

use std::time::Duration;

use leasehold_core::{Body, Error, ErrorKind, Vault};
use serde_json::{Value, json};
use support::*;
use wiremock::{MockServer, ResponseTemplate};

fn redirect(status: u16, to: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).insert_header("location", to)
}

/// The outcome of a read from a server that redirects to another, which must stay unasked.
async fn refused(status: u16, to: impl Fn(&str) -> String) -> Error {
    let stranger = always(envelope(json!({}))).await;
    let server = always(redirect(status, &to(&stranger.uri()))).await;
    let error = client(&server).read(&token(), "kv/x").await.unwrap_err();
    assert!(requests(&stranger).await.is_empty(), "the token went to a stranger");
    error
}

#[tokio::test]
async fn another_host_is_refused_and_gets_no_token() {
    for status in [301, 302, 307, 308] {
        let error = refused(status, |stranger| format!("{stranger}/v1/kv/x?secret=hunter2")).await;
        assert_eq!(error.kind(), ErrorKind::Redirected, "{error}");
        assert!(
            error.message().contains("http://127.0.0.1:") && !shown(&error).contains("hunter2"),
            "{error}"
        );
    }
    // A name that is ours only to the eye.
    let error = refused(307, |stranger| stranger.replace("127.0.0.1", "localhost")).await;
    assert_eq!(error.kind(), ErrorKind::Redirected);
}

#[tokio::test]
async fn a_login_is_not_sent_to_strangers_either() {
    let stranger = always(envelope(json!({}))).await;
    let server = always(redirect(307, &format!("{}/v1/auth/jwt/login", stranger.uri()))).await;
    let error = client(&server).login("auth/jwt/login", Body::new().text("jwt", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirected);
    assert!(requests(&stranger).await.is_empty());
}

#[tokio::test]
async fn the_same_origin_is_followed_with_method_body_and_token() {
    for to in ["/v1/new", "{}/v1/new"] {
        for status in [307, 308] {
            let server = MockServer::start().await;
            on(&server, "POST", "/v1/old", redirect(status, &to.replace("{}", &server.uri()))).await;
            on(&server, "POST", "/v1/new", envelope(json!({"data": {"x": "y"}}))).await;
            let client = builder(&server).namespace("team").build().unwrap();
            let answer = client.write(&token(), "old", Body::new().number("n", 1)).await.unwrap();
            assert_eq!(answer.data().text("x").unwrap(), "y");
            let second = &requests(&server).await[1];
            assert_eq!(second.headers["x-vault-token"], TOKEN);
            assert_eq!(second.headers["x-vault-namespace"], "team");
            assert_eq!(second.body_json::<Value>().unwrap(), json!({"n": 1}));
        }
    }
}

#[tokio::test]
async fn a_listed_node_is_followed() {
    let node = always(envelope(json!({"data": {"x": "y"}}))).await;
    let server = always(redirect(307, &format!("{}/v1/kv/x", node.uri()))).await;
    let client = builder(&server).redirect_to("http://127.0.0.1:1").redirect_to(node.uri()).build().unwrap();
    client.read(&token(), "kv/x").await.unwrap();
    let arrived = &requests(&node).await[0];
    assert_eq!(arrived.headers["x-vault-token"], TOKEN);
    assert_eq!(arrived.headers["host"], node.address().to_string());
}

#[tokio::test]
async fn a_listed_node_leads_home_and_nowhere_else() {
    let stranger = always(envelope(json!({}))).await;
    let node = MockServer::start().await;
    let server = MockServer::start().await;
    on(&server, "GET", "/v1/a", redirect(307, &format!("{}/v1/a", node.uri()))).await;
    on(&node, "GET", "/v1/a", redirect(307, &format!("{}/v1/home", server.uri()))).await;
    on(&server, "GET", "/v1/home", envelope(json!({}))).await;
    on(&server, "GET", "/v1/b", redirect(307, &format!("{}/v1/b", node.uri()))).await;
    on(&node, "GET", "/v1/b", redirect(307, &format!("{}/v1/b", stranger.uri()))).await;
    let client = builder(&server).redirect_to(node.uri()).build().unwrap();
    client.read(&token(), "a").await.unwrap();
    let error = client.read(&token(), "b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirected);
    assert!(requests(&stranger).await.is_empty());
}

#[tokio::test]
async fn a_write_is_not_turned_into_a_read() {
    for status in [301, 302, 303] {
        let server = always(redirect(status, "/v1/new")).await;
        let error = client(&server).write(&token(), "old", Body::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirected, "{error}");
        assert_eq!(requests(&server).await.len(), 1);
    }
}

#[tokio::test]
async fn a_read_follows_301_and_302() {
    for status in [301, 302] {
        let server = MockServer::start().await;
        on(&server, "GET", "/v1/old", redirect(status, "/v1/new")).await;
        on(&server, "GET", "/v1/new", envelope(json!({}))).await;
        client(&server).read(&token(), "old").await.unwrap();
    }
}

#[tokio::test]
async fn a_circle_ends_after_three_hops() {
    let server = always(redirect(307, "/v1/again")).await;
    let error = client(&server).read(&token(), "again").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirected);
    assert_eq!(requests(&server).await.len(), 4);
}

#[tokio::test]
async fn one_deadline_covers_all_hops() {
    let server = always(redirect(307, "/v1/again").set_delay(Duration::from_millis(200))).await;
    let client = builder(&server).timeout(Duration::from_millis(300)).build().unwrap();
    let error = client.read(&token(), "again").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(requests(&server).await.len() <= 2);
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_unexpected() {
    for answer in [ResponseTemplate::new(307), redirect(307, "http://"), redirect(308, "https://[")] {
        let server = always(answer).await;
        let error = client(&server).read(&token(), "kv/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
    }
}
