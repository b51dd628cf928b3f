//! The recorder counts requests, and answers in OpenBao's stead.

mod common;

use std::time::Duration;

use common::{client, start};
use leasehold_testbed::Fault;
use serde_json::{Value, json};
use tokio::time::Instant;

#[tokio::test]
async fn requests_are_forwarded_and_counted() {
    let testbed = start().await;
    let recorder = testbed.recorder().unwrap();
    let url = format!("{}/v1/sys/mounts?unused=1", recorder.address());
    let request = || client().get(&url).header("X-Vault-Token", testbed.openbao().root_token());
    let body: Value = request().send().await.unwrap().json().await.unwrap();
    assert!(body["data"]["database/"].is_object());
    assert_eq!(client().get(&url).send().await.unwrap().status(), 403);

    let requests = recorder.requests();
    let seen: Vec<_> =
        requests.iter().map(|request| (request.method.as_str(), request.path.as_str())).collect();
    assert_eq!(seen, [("GET", "/v1/sys/mounts"); 2]);
    assert_eq!((requests[0].status, requests[1].status), (Some(200), Some(403)));
    assert!(requests[0].took > Duration::ZERO && !requests[0].faulty);
    assert!(!format!("{recorder:?}").contains(testbed.openbao().root_token()));
    recorder.clear();
    assert_eq!(recorder.count("GET", "/"), 0);

    let list = format!("{}/v1/auth/token/accessors", recorder.address());
    let list = client()
        .request("LIST".parse().unwrap(), list)
        .header("X-Vault-Token", testbed.openbao().root_token());
    assert_eq!(list.send().await.unwrap().status(), 200);
    assert_eq!(recorder.count("LIST", "/v1/auth/token"), 1);
}

#[tokio::test]
async fn faults_take_the_servers_place() {
    let testbed = start().await;
    let recorder = testbed.recorder().unwrap();
    let url = format!("{}/v1/sys/health", recorder.address());
    let get = || client().get(&url).send();

    recorder.fault("/v1/sys/", Fault::error(429, "slow down").retry_after(7), 1);
    let answer = get().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(answer.json::<Value>().await.unwrap()["errors"][0], "slow down");
    assert_eq!(get().await.unwrap().status(), 200);

    recorder.fault("/v1/sys/", Fault::Drop, 1);
    recorder.fault("/v1/sys/", Fault::Lose, 1);
    assert!(get().await.is_err());
    assert!(get().await.is_err());
    assert_eq!(get().await.unwrap().status(), 200);

    recorder.fault("/v1/sys/", Fault::Delay(Duration::from_millis(300)), 1);
    let before = Instant::now();
    assert_eq!(get().await.unwrap().status(), 200);
    assert!(before.elapsed() >= Duration::from_millis(300));

    recorder.fault("/v1/auth/", Fault::Drop, usize::MAX);
    assert_eq!(get().await.unwrap().status(), 200);
    recorder.fault("/v1/sys/", Fault::error(503, "OpenBao is sealed"), usize::MAX);
    assert_eq!(get().await.unwrap().status(), 503);
    assert_eq!(get().await.unwrap().status(), 503);
    recorder.heal();
    assert_eq!(get().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_is_cut_short_or_garbled_on_its_way() {
    let testbed = start().await;
    let recorder = testbed.recorder().unwrap();
    let url = format!("{}/v1/sys/health", recorder.address());
    let whole = client().get(&url).send().await.unwrap().bytes().await.unwrap();

    recorder.fault("/v1/sys/", Fault::Truncate(20), 1);
    let mut answer = client().get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.content_length()), (200, Some(whole.len() as u64)));
    let mut came = Vec::new();
    let end = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => came.extend_from_slice(&chunk),
            end => break end,
        }
    };
    assert!(end.is_err(), "nobody says that it is the end");
    assert_eq!(came, whole[..20]);

    recorder.fault("/v1/sys/", Fault::Garble, 1);
    let answer = client().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let noise = answer.bytes().await.unwrap();
    assert_eq!(noise.len(), whole.len());
    assert!(std::str::from_utf8(&noise).is_err() && serde_json::from_slice::<Value>(&noise).is_err());
    assert_eq!(recorder.requests().iter().filter(|request| request.faulty).count(), 2);
    assert_eq!(client().get(&url).send().await.unwrap().bytes().await.unwrap().len(), whole.len());
}

/// What an answer grants begins when the server gives it.
#[tokio::test]
async fn an_answer_can_be_slower_than_what_it_grants() {
    let testbed = start().await;
    let recorder = testbed.recorder().unwrap();
    let url = |path: &str| format!("{}/v1/auth/token/{path}", recorder.address());
    let create = || async {
        let request = client().post(url("create")).header("X-Vault-Token", testbed.openbao().root_token());
        let answer = request.json(&json!({ "ttl": "1s" })).send().await.unwrap();
        let token = answer.json::<Value>().await.unwrap()["auth"]["client_token"].clone();
        let lookup = client().get(url("lookup-self")).header("X-Vault-Token", token.as_str().unwrap());
        lookup.send().await.unwrap().status().as_u16()
    };
    assert_eq!(create().await, 200);
    recorder.fault("/v1/auth/token/create", Fault::Late(Duration::from_millis(1500)), 1);
    assert_eq!(create().await, 403, "it was dead when it came");
}
