//! TLS in which both sides show a certificate that is reissued every so often.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use leasehold_core::Current;
use leasehold_secrets::{Certificate, CertificateResolver};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{CertificateDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Settings of a server that shows the current certificate, and lets in whoever shows one of the same authority.
pub fn server(certificate: Current<Certificate>) -> Result<ServerConfig> {
    let (provider, roots) = (provider(), authority(&certificate)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let resolver = CertificateResolver::new(certificate, provider.clone())?;
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(resolver));
    // In a session that is resumed nobody shows a certificate: a client whose own has long expired would stay in.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Settings of a client that shows the current certificate, to a server with one of the same authority.
pub fn client(certificate: Current<Certificate>) -> Result<ClientConfig> {
    let (provider, roots) = (provider(), authority(&certificate)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let resolver = CertificateResolver::new(certificate, provider.clone())?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_webpki_verifier(verifier).with_client_cert_resolver(Arc::new(resolver));
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Answers each connection with what it sends, for as long as it is open, whatever becomes of its certificate.
pub async fn echo(listener: TcpListener, config: ServerConfig) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut stream = acceptor.accept(stream).await?;
            let mut buffer = [0; 1024];
            loop {
                let length = stream.read(&mut buffer).await?;
                if length == 0 {
                    return std::io::Result::Ok(());
                }
                stream.write_all(&buffer[..length]).await?;
                stream.flush().await?;
            }
        });
    }
}

/// The authority that signed the first certificate. One that is replaced needs a restart, or a verifier of your own.
fn authority(certificate: &Current<Certificate>) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    let issued = certificate.get()?;
    let authority = CertificateDer::from_pem_slice(issued.secret().authority().as_bytes());
    roots.add(authority.map_err(|error| anyhow!("the authority's certificate: {error}"))?)?;
    Ok(Arc::new(roots))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}
