//! Servers that fail, refuse, or are none.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod support;

use std::time::Duration;

use leasehold_core::{Body, Error, ErrorKind, Party, SecretString, Vault};
use leasehold_vault::Client;
use serde_json::json;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use wiremock::{MockServer, ResponseTemplate};

async fn failure(answer: ResponseTemplate) -> Error {
    let server = always(answer).await;
    let error = client(&server).read(&token(), "database/creds/app").await.unwrap_err();
    assert_eq!(requests(&server).await.len(), 1, "one attempt is one request");
    error
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::builder().address(&address).build().unwrap();
    let error = client.read(&token(), "kv/x").await.unwrap_err();
    assert_eq!((error.kind(), error.party()), (ErrorKind::Unreachable, Party::Vault));
    assert!(error.message().contains(&address) && error.message().contains("refused"), "{error}");
}

#[tokio::test]
async fn an_unknown_name_is_unreachable() {
    let client = Client::builder().address("http://no-such-host.invalid:8200").build().unwrap();
    let error = client.read(&token(), "kv/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_hanging_server_costs_the_timeout_and_no_more() {
    let server = always(ResponseTemplate::new(200).set_delay(Duration::from_secs(60))).await;
    let client = builder(&server).timeout(Duration::from_millis(200)).build().unwrap();
    let begun = tokio::time::Instant::now();
    let error = client.read(&token(), "kv/x").await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_body_that_never_ends_costs_the_timeout_too() {
    let server = raw_server(
        b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n{\"data\":{\"password\":\"hunter2\"",
        true,
    )
    .await;
    let client = Client::builder().address(server).timeout(Duration::from_millis(200)).build().unwrap();
    let error = client.read(&token(), "kv/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(!shown(&error).contains("hunter2"));
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_is_unreachable() {
    for bytes in [
        b"".as_slice(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"data\":{\"password\":\"hunter2\"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let server = raw_server(bytes, false).await;
        let client = Client::builder().address(server).build().unwrap();
        let error = client.read(&token(), "kv/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(!shown(&error).contains("hunter2"), "{error}");
    }
}

/// Answers one connection with these bytes, then hangs or closes.
async fn raw_server(bytes: &'static [u8], hang: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(bytes).await;
        if hang {
            std::future::pending::<()>().await;
        }
    });
    address
}

#[tokio::test]
async fn each_status_has_its_kind() {
    use ErrorKind::*;
    for (answer, kind) in [
        (refusal(400, &["unknown role: app"]), NotFound),
        (refusal(404, &[]), NotFound),
        (refusal(412, &["required index state not present"]), NotReplicated),
        (refusal(429, &["quota exceeded"]), RateLimited),
        (ResponseTemplate::new(472), Unreachable),
        (ResponseTemplate::new(473), Unreachable),
        (refusal(500, &["failed to connect to `host=db`: connection refused"]), DatabaseUnavailable),
        (refusal(500, &["internal error"]), Unreachable),
        (ResponseTemplate::new(502).set_body_raw("<html>Bad Gateway</html>", "text/html"), Unreachable),
        (refusal(503, &["Vault is sealed"]), Sealed),
        (refusal(503, &["Vault is in standby mode"]), Sealed),
        (ResponseTemplate::new(200).set_body_raw("<html>log in</html>", "text/html"), Unexpected),
        (ResponseTemplate::new(304), Unexpected),
        (ResponseTemplate::new(300), Unexpected),
    ] {
        let error = failure(answer).await;
        assert_eq!(error.kind(), kind, "{error}");
    }
}

/// The lease, or the token, exists, and nobody knows its name.
#[tokio::test]
async fn a_success_that_cannot_be_read_may_have_been_one() {
    let bodies: [&[u8]; 5] = [
        b"<html>200</html>",
        b"{\"lease_id\":\"database/creds/app/1\",\"data\":{",
        b"{\"lease_id\":7}",
        b"{\"lease_id\":\"a\",\"lease_duration\":-5}",
        &[b' '; 16 * 1024 * 1024 + 1],
    ];
    for body in bodies {
        let server = always(ResponseTemplate::new(200).set_body_raw(body, "application/json")).await;
        let client = client(&server);
        for outcome in [
            client.read(&token(), "database/creds/app").await,
            client.login("auth/kubernetes/login", Body::new().text("jwt", "a.b.c")).await,
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unexpected);
            assert!(error.may_have_been_carried_out(), "{error}");
        }
    }
    for body in [json!({}), json!({ "auth": { "client_token": "" } })] {
        let server = always(envelope(body)).await;
        let error = client(&server).login("auth/kubernetes/login", Body::new()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unexpected && error.may_have_been_carried_out(), "{error}");
    }
    for (status, may) in [(502, true), (504, true), (503, false), (404, false)] {
        let error = failure(ResponseTemplate::new(status).set_body_string("<html>")).await;
        assert_eq!(error.may_have_been_carried_out(), may, "{status}");
    }
}

#[tokio::test]
async fn a_warning_that_is_no_text_spoils_no_lease() {
    let body = json!({ "lease_id": "a", "lease_duration": 60, "warnings": [{ "code": 1 }, "mind the gap"] });
    let answer = client(&always(envelope(body)).await).read(&token(), "database/creds/app").await.unwrap();
    assert_eq!((answer.lease().id(), answer.warnings()), ("a", ["mind the gap".to_owned()].as_slice()));
    let body = json!({ "lease_id": "a", "lease_duration": 60, "warnings": "mind the gap" });
    assert!(client(&always(envelope(body)).await).read(&token(), "database/creds/app").await.is_ok());
}

#[tokio::test]
async fn the_wait_that_the_server_asks_for_is_kept() {
    // vaultrs drops the headers of errors.
    for status in [429, 503] {
        let error = failure(refusal(status, &["slow down"]).insert_header("retry-after", "17")).await;
        assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
    }
    let date = "Fri, 31 Dec 9999 23:59:59 GMT";
    let error = failure(refusal(429, &[]).insert_header("retry-after", date)).await;
    assert!(error.retry_after().unwrap() > Duration::from_secs(1_000_000));
    assert_eq!(failure(refusal(429, &[])).await.retry_after(), None);
}

#[tokio::test]
async fn a_403_is_looked_into_once() {
    let server = MockServer::start().await;
    on(&server, "GET", "/v1/auth/token/lookup-self", envelope(json!({"data": {"ttl": 60}}))).await;
    on(
        &server,
        "GET",
        "/v1/database/creds/app",
        refusal(403, &["1 error occurred:\n\t* permission denied\n\n"]),
    )
    .await;
    on(&server, "POST", "/v1/sys/leases/renew", refusal(403, &["permission denied"])).await;
    let client = client(&server);
    let error = client.read(&token(), "database/creds/app").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("`read`") && error.message().contains("database/creds/app"), "{error}");
    assert_eq!(requests(&server).await.len(), 2);
    let error = client.renew_lease(&token(), "l", Duration::from_secs(1)).await.unwrap_err();
    assert!(error.message().contains("`update`") && error.message().contains("sys/leases/renew"), "{error}");
    assert_eq!(requests(&server).await.len(), 4);
    // The question would be the token's last use, with which it ends.
    let token = token().with_uses(Some(leasehold_core::Uses::new(2)));
    let error = client.read(&token, "database/creds/app").await.unwrap_err();
    assert_eq!((error.kind(), requests(&server).await.len()), (ErrorKind::Denied, 5));
}

#[tokio::test]
async fn a_dead_token_is_found_out() {
    let server = always(refusal(403, &["permission denied"])).await;
    let error = client(&server).read(&token(), "kv/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadToken);
    assert!(error.message().contains("kv/x"), "{error}");
    assert_eq!(requests(&server).await.len(), 2);
}

/// A mesh in front of the server (istio #12351): its 403 is no reason to ask, nor to believe that anything has ended.
#[tokio::test]
async fn a_403_of_somebody_in_front_of_the_server_costs_one_request_and_concludes_nothing() {
    for body in ["RBAC: access denied", "<html>Forbidden</html>", ""] {
        for status in [401, 403] {
            let server = always(ResponseTemplate::new(status).set_body_raw(body, "text/plain")).await;
            let client = client(&server);
            let outcomes = [
                client.read(&token(), "database/creds/app").await,
                client.lookup_token(&token()).await,
                client.unwrap(&token()).await,
                client.login("auth/kubernetes/login", Body::new().text("jwt", "a.b.c")).await,
            ];
            for outcome in outcomes {
                let error = outcome.unwrap_err();
                assert_eq!((error.kind(), error.party()), (ErrorKind::Unreachable, Party::Vault), "{error}");
            }
            assert_eq!(requests(&server).await.len(), 4, "nothing was looked into");
        }
    }
}

#[tokio::test]
async fn lookup_self_is_not_looked_into() {
    let server = always(refusal(403, &["permission denied"])).await;
    let error = client(&server).lookup_token(&token()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadToken);
    assert_eq!(requests(&server).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_says_so_is_not_asked_again() {
    let server =
        always(refusal(403, &["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"])).await;
    let error = client(&server).read(&token(), "kv/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadToken);
    assert_eq!(requests(&server).await.len(), 1);
}

/// It says nothing of the token, so all that is known is the refusal: nothing was carried out.
#[tokio::test]
async fn a_lookup_that_fails_otherwise_does_not_hide_the_refusal() {
    for (answer, why) in [
        (refusal(503, &["Vault is sealed"]), "sealed"),
        (refusal(500, &["internal error"]), "internal error"),
        (ResponseTemplate::new(403).set_body_string("RBAC: access denied"), "as if from a proxy"),
        (refusal(429, &[]).insert_header("retry-after", "3"), "429"),
        (ResponseTemplate::new(200).set_delay(Duration::from_secs(60)), "could not be asked"),
    ] {
        let server = MockServer::start().await;
        on(&server, "GET", "/v1/auth/token/lookup-self", answer).await;
        on(&server, "GET", "/v1/kv/x", refusal(403, &["permission denied"])).await;
        let client = builder(&server).timeout(Duration::from_millis(300)).build().unwrap();
        let error = client.read(&token(), "kv/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!error.may_have_been_carried_out(), "{error}");
        assert!(error.message().contains("no `read` on kv/x") && error.message().contains(why), "{error}");
        assert_eq!(error.retry_after(), (why == "429").then_some(Duration::from_secs(3)));
        assert_eq!(requests(&server).await.len(), 2);
    }
}

#[tokio::test]
async fn a_refused_login_says_why_and_costs_one_request() {
    let jwt = SecretString::from(
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwaXBlbGluZSJ9.c2lnbmF0dXJlc2lnbmF0dXJl".to_owned(),
    );
    for (status, said) in [(400, "invalid role name \"app\""), (403, "claim \"aud\" not satisfied")] {
        let server = always(refusal(status, &[said])).await;
        let body = Body::new().text("role", "app").secret("jwt", &jwt);
        let error = client(&server).login("auth/kubernetes/login", body).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRefused);
        assert!(error.message().contains(said), "{error}");
        assert_eq!(requests(&server).await.len(), 1);
    }
}

#[tokio::test]
async fn no_secret_comes_back_in_an_error() {
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwaXBlbGluZSJ9.c2lnbmF0dXJlc2lnbmF0dXJl";
    let echoes = [
        format!("token {TOKEN} with jwt {jwt} and password hunter2-long"),
        format!("jwt:\n{jwt}\ttoken=\"{TOKEN}\""),
        format!("claims eyJzdWIiOiJwaXBlbGluZSJ9 differ, {TOKEN}"),
    ];
    let secrets = [TOKEN, jwt, "eyJzdWIiOiJwaXBlbGluZSJ9", "hunter2-long"];
    for status in [400, 403, 404, 429, 500, 503] {
        for echo in &echoes {
            for answer in [
                refusal(status, &[echo]),
                ResponseTemplate::new(status).set_body_string(echo),
                ResponseTemplate::new(200).set_body_string(echo),
                ResponseTemplate::new(200).set_body_json(json!({"lease_duration": echo})),
                ResponseTemplate::new(200).set_body_json(json!({"warnings": [echo]})),
            ] {
                let server = always(answer).await;
                let client = client(&server);
                let body = Body::new().text("jwt", jwt).text("password", "hunter2-long");
                for outcome in [
                    client.login("auth/jwt/login", body.clone()).await,
                    client.write(&token(), "sys/leases/renew", body).await,
                ] {
                    assert_hidden(&outcome, &secrets);
                    let text = outcome.as_ref().err().map(shown).unwrap_or_default();
                    assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
                }
            }
        }
    }
    // A body that was not sent by us but is one: never quoted.
    let error =
        failure(ResponseTemplate::new(200).set_body_string("{\"data\":{\"password\":\"hunter2\"")).await;
    assert_eq!(error.kind(), ErrorKind::Unexpected);
    assert!(!shown(&error).contains("hunter2"));
}

#[tokio::test]
async fn a_long_message_is_cut() {
    let error = failure(refusal(400, &[&"long ".repeat(1000)])).await;
    assert!(error.message().chars().count() < 400, "{error}");
}
