//! Mutual TLS without a certificate or a key on disk: an echo server on 127.0.0.1:8443, and a client that asks it every
//! second and says which certificate it showed.
//!
//! ```console
//! $ vault secrets enable pki
//! $ vault write pki/root/generate/internal common_name=example ttl=8760h
//! $ vault write pki/roles/pipeline allowed_domains=example allow_subdomains=true max_ttl=1h
//! $ VAULT_ADDR=… VAULT_TOKEN=… cargo run --package pki-mtls
//! ```
//!
//! The policy needs `update` on `pki/issue/pipeline`.

use std::{sync::Arc, time::Duration};

use leasehold_renewal::Builder;
use leasehold_renewal::Keeper;
use leasehold_secrets::Pki;
use pki_mtls::{client, echo, server};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::interval,
};
use tokio_rustls::TlsConnector;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example")]
async fn main() -> anyhow::Result<()> {
    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let token = Keeper::start(leasehold_auth::detect(vault.clone(), "pipeline")?).await?;
    let certificate =
        Pki::new(vault, token.current(), "pipeline", "echo.example").ttl(Duration::from_secs(60));
    // How long a handshake may take that has the old one.
    let certificate = Builder::new().drain_budget(Duration::from_secs(10)).start(certificate).await?;

    let listener = TcpListener::bind("127.0.0.1:8443").await?;
    tokio::spawn(echo(listener, server(certificate.current())?));
    let connector = TlsConnector::from(Arc::new(client(certificate.current())?));
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            stopped = tokio::signal::ctrl_c() => break stopped?,
        }
        let stream = TcpStream::connect("127.0.0.1:8443").await?;
        let mut stream = connector.connect(ServerName::try_from("echo.example")?, stream).await?;
        stream.write_all(b"hello").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        let serial = certificate.current().get()?.secret().serial_number().to_owned();
        println!("{} with certificate {serial}", String::from_utf8_lossy(&answer));
    }
    certificate.shutdown().await?;
    token.shutdown().await?;
    Ok(())
}
