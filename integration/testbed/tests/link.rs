//! Everything that can go wrong between a client and a server, on real ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{num::NonZeroU32, time::Duration};

use common::{client, connect_at, credentials, eventually, lasting, log_in, start_with, value};
use leasehold_testbed::{Direction, Link, Testbed};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_postgres::Client;

const MOMENT: Duration = Duration::from_millis(500);

/// A link in front of PostgreSQL, and a user who may come in.
struct Stage {
    testbed: Testbed,
    link: Link,
    url: String,
    credentials: Value,
}

impl Stage {
    async fn set() -> Self {
        let testbed = start_with(lasting()).await;
        let token = log_in(&testbed).await["client_token"].as_str().unwrap().to_owned();
        let credentials = credentials(&testbed, &token).await;
        let postgres = testbed.postgres();
        let link = Link::to(postgres.host(), postgres.port()).await.unwrap();
        let url = format!("postgres://{}:{}/{}", link.host(), link.port(), postgres.database());
        Self { testbed, link, url, credentials }
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        connect_at(&self.url, &self.credentials).await
    }

    async fn sessions(&self) -> usize {
        let user = self.credentials["data"]["username"].as_str().unwrap();
        self.testbed.postgres().sessions_of(user).await.unwrap()
    }
}

async fn takes<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let before = Instant::now();
    (work.await, before.elapsed())
}

#[tokio::test]
async fn it_is_slow_each_way_and_as_wide_as_it_is_told() {
    let stage = Stage::set().await;
    let session = stage.connect().await.unwrap();
    assert_eq!(stage.link.connections(), 1);
    stage.link.latency(Duration::from_millis(200), Duration::from_millis(100));
    let (answer, took) = takes(value(&session, "SELECT 'there and back'")).await;
    assert_eq!(answer.unwrap(), "there and back");
    assert!(took >= Duration::from_millis(400), "{took:?}");

    stage.link.mend().await.unwrap();
    let long = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM generate_series(1, 30000) AS n";
    let (whole, took) = takes(value(&session, long)).await;
    let whole = whole.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // What was sent first arrives first, whatever the jitter.
    stage.link.latency(Duration::ZERO, Duration::from_millis(30));
    assert_eq!(value(&session, long).await.unwrap(), whole);
    stage.link.latency(Duration::ZERO, Duration::ZERO);
    stage.link.bandwidth(NonZeroU32::new(100_000));
    let (slowly, took) = takes(value(&session, long)).await;
    assert_eq!(slowly.unwrap(), whole);
    assert!(took >= Duration::from_secs_f64(whole.len() as f64 / 100_000.0), "{} in {took:?}", whole.len());
}

#[tokio::test]
async fn in_silence_nobody_is_told_and_afterwards_it_goes_on() {
    let stage = Stage::set().await;
    let session = stage.connect().await.unwrap();
    stage.link.silence();
    let query = value(&session, "SELECT 'at last'");
    tokio::pin!(query);
    assert!(timeout(MOMENT, &mut query).await.is_err());
    assert!(timeout(MOMENT, stage.connect()).await.is_err(), "it is neither accepted nor refused");
    stage.link.mend().await.unwrap();
    assert_eq!(query.await.unwrap(), "at last");
}

#[tokio::test]
async fn what_is_cut_is_reset_and_refused_until_it_is_mended() {
    let stage = Stage::set().await;
    let session = stage.connect().await.unwrap();
    stage.link.reset();
    assert!(session.simple_query("SELECT 1").await.is_err());
    let session = stage.connect().await.unwrap();
    stage.link.cut().await.unwrap();
    assert!(session.simple_query("SELECT 1").await.is_err());
    eventually("no session is left", || async { stage.sessions().await == 0 }).await;
    let refused = TcpStream::connect((stage.link.host(), stage.link.port())).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(stage.connect().await.is_err());
    stage.link.mend().await.unwrap();
    let session = stage.connect().await.unwrap();
    assert_eq!(value(&session, "SELECT 1").await.unwrap(), "1");
}

#[tokio::test]
async fn one_direction_ends_and_the_other_goes_on() {
    let stage = Stage::set().await;
    let mut stream = TcpStream::connect((stage.link.host(), stage.link.port())).await.unwrap();
    // Asks for TLS, which PostgreSQL is not set up for.
    let ask = [0, 0, 0, 8, 4, 210, 22, 47];
    stream.write_all(&ask).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'N');
    stage.link.half_close(Direction::ToClient);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "the server seems to be done");
    stream.write_all(&ask).await.unwrap();
    assert_eq!(stage.link.connections(), 1);
    stage.link.half_close(Direction::ToServer);
    eventually("both are done", || async { stage.link.connections() == 0 }).await;

    // The other way round: the server hears that the client is done, and ends the session.
    let session = stage.connect().await.unwrap();
    assert_eq!(value(&session, "SELECT 1").await.unwrap(), "1");
    assert_eq!(stage.sessions().await, 1);
    stage.link.half_close(Direction::ToServer);
    eventually("the server has ended the session", || async { stage.sessions().await == 0 }).await;
    assert!(session.simple_query("SELECT 1").await.is_err());
}

#[tokio::test]
async fn an_answer_is_cut_short_or_garbled() {
    let stage = Stage::set().await;
    let session = stage.connect().await.unwrap();
    stage.link.truncate(1000);
    assert_eq!(value(&session, "SELECT 1").await.unwrap(), "1", "what is short passes");
    assert!(value(&session, "SELECT repeat('x', 5000)").await.is_err());
    assert!(session.is_closed());
    stage.link.mend().await.unwrap();
    let session = stage.connect().await.unwrap();
    assert_eq!(value(&session, "SELECT repeat('x', 5000)").await.unwrap().len(), 5000);
    stage.link.garble();
    // A client may fail, or wait for the rest of what noise says to be long.
    let heard = timeout(MOMENT, value(&session, "SELECT 1")).await;
    assert!(!matches!(heard, Ok(Ok(_))), "{heard:?}");
}

#[tokio::test]
async fn handshakes_are_held_back_and_sessions_are_not() {
    let stage = Stage::set().await;
    let session = stage.connect().await.unwrap();
    stage.link.delay_handshakes(MOMENT);
    let (late, took) = takes(stage.connect()).await;
    assert!(took >= MOMENT, "{took:?}");
    drop(late.unwrap());
    assert_eq!(stage.link.delayed_handshakes(), 1);
    stage.link.mend().await.unwrap();
    stage.link.hold_handshakes();
    let held = stage.connect();
    tokio::pin!(held);
    assert!(timeout(MOMENT, &mut held).await.is_err());
    assert_eq!(value(&session, "SELECT 1").await.unwrap(), "1");
    stage.link.hold_no_more();
    drop(stage.connect().await.unwrap());
    assert!(timeout(MOMENT, &mut held).await.is_err(), "it is still held");
    stage.link.release();
    held.await.unwrap();
}

#[tokio::test]
async fn it_carries_http_as_well_and_ends_with_its_handle() {
    let stage = Stage::set().await;
    let address = stage.testbed.openbao().address();
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let link = Link::to("127.0.0.1", port).await.unwrap();
    let url = format!("http://{}:{}/v1/sys/health", link.host(), link.port());
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    link.latency(MOMENT, Duration::ZERO);
    let (answer, took) = takes(client().get(&url).send()).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert!(took >= 2 * MOMENT, "{took:?}");
    link.cut().await.unwrap();
    assert!(client().get(&url).send().await.unwrap_err().is_connect());
    link.mend().await.unwrap();
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    drop(link);
    eventually("nobody listens", || async { client().get(&url).send().await.is_err() }).await;
}
