//! Both sides show certificates of a real server, through several of them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::HashSet, sync::Arc, time::Duration};

use leasehold_auth::GivenToken;
use leasehold_renewal::{Builder, Keeper};
use leasehold_secrets::{Certificate, Pki};
use leasehold_testbed::{Config, Testbed};
use leasehold_vault::Client;
use pki_mtls::{client, echo, server};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, interval},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

async fn connect(config: &Arc<ClientConfig>, port: u16) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("echo.example").unwrap();
    TlsConnector::from(config.clone()).connect(name, stream).await
}

async fn answers(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_handshake_succeeds_while_certificates_come_and_go_and_open_connections_stay() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let write = async |path: &str, body| testbed.openbao().request("POST", path, Some(body)).await.unwrap();
    write("sys/mounts/pki", json!({ "type": "pki" })).await;
    write("pki/root/generate/internal", json!({ "common_name": "example", "ttl": "24h", "key_type": "ec" }))
        .await;
    let role =
        json!({ "allowed_domains": "example", "allow_subdomains": true, "max_ttl": "1h", "key_type": "ec" });
    write("pki/roles/pipeline", role).await;
    let vault = Arc::new(Client::builder().address(testbed.openbao().address()).build().unwrap());
    let token = Keeper::start(GivenToken::new(vault.clone(), testbed.openbao().root_token())).await.unwrap();
    let certificate = async |name: &str| -> Keeper<Certificate> {
        let pki = Pki::new(vault.clone(), token.current(), "pipeline", name).ttl(Duration::from_secs(10));
        Builder::new().drain_budget(Duration::from_secs(2)).start(pki).await.unwrap()
    };
    let (ours, theirs) = (certificate("echo.example").await, certificate("client.example").await);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(echo(listener, server(ours.current()).unwrap()));
    let config = Arc::new(client(theirs.current()).unwrap());
    let mut open = connect(&config, port).await.unwrap();

    let (mut shown, mut ticks) = (HashSet::new(), interval(Duration::from_millis(50)));
    let (mut handshakes, deadline) = (0, Instant::now() + Duration::from_secs(60));
    while shown.len() < 4 {
        assert!(Instant::now() < deadline, "{} certificates in a minute", shown.len());
        ticks.tick().await;
        let mut stream = connect(&config, port).await.unwrap();
        answers(&mut stream).await.unwrap();
        shown.insert(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec());
        answers(&mut open).await.unwrap();
        handshakes += 1;
    }
    assert!(handshakes > 50, "{handshakes}");

    // Whoever has no certificate of the authority stays outside.
    let mut nobody = (*config).clone();
    nobody.client_auth_cert_resolver = Arc::new(NoCertificate);
    let refused = async {
        let mut stream = connect(&Arc::new(nobody), port).await?;
        answers(&mut stream).await
    };
    assert!(refused.await.is_err());
    for keeper in [ours, theirs] {
        keeper.shutdown().await.unwrap();
    }
    token.shutdown().await.unwrap();
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
