//! Certificates, on both sides.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod support;

use std::{fs, sync::Arc, time::Duration};

use leasehold_core::{ErrorKind, Vault};
use leasehold_vault::{Builder, Client};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // With the authority's name OpenSSL would take it for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { certificate, key: key.serialize_pem() }
    }

    /// Starts a server with a certificate for `name`; with `clients` it wants one of theirs too. It answers with the
    /// `Host` that it was asked for.
    async fn serve(&self, name: &str, clients: Option<&Self>) -> String {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                config.with_client_cert_verifier(verifier)
            }
        };
        let leaf = self.issue(name);
        let config = config
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => stream,
                        Err((_, mut refused)) => {
                            // Closed with something unread it would be reset, and the alert lost.
                            let _ = refused.read_to_end(&mut Vec::new()).await;
                            return;
                        }
                    };
                    let mut request = vec![0; 8192];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
                    let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("");
                    let body = format!("{{\"data\":{{\"host\":\"{host}\"}}}}");
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        address
    }
}

fn at(address: &str) -> Builder {
    Client::builder().address(address).timeout(Duration::from_secs(5))
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_named() {
    let authority = Authority::new();
    let address = authority.serve("127.0.0.1", None).await;
    at(&address).ca_cert_pem(authority.pem.clone()).build().unwrap().read(&token(), "kv/x").await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, &authority.pem).unwrap();
    fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
    fs::create_dir(folder.path().join("..data")).unwrap();
    at(&address).ca_cert_file(&file).build().unwrap().read(&token(), "kv/x").await.unwrap();
    at(&address).ca_cert_folder(folder.path()).build().unwrap().read(&token(), "kv/x").await.unwrap();

    let variables = [("BAO_ADDR", address.clone()), ("VAULT_CACERT", file.display().to_string())];
    let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    Builder::from_lookup(lookup).unwrap().build().unwrap().read(&token(), "kv/x").await.unwrap();
}

#[tokio::test]
async fn another_authority_is_refused_with_advice() {
    let address = Authority::new().serve("127.0.0.1", None).await;
    for client in [
        at(&address).ca_cert_pem(Authority::new().pem).build().unwrap(),
        at(&address).build().unwrap(), // the system's
    ] {
        let error = client.read(&token(), "kv/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        for part in ["certificate", "not trusted", "VAULT_CACERT", address.as_str()] {
            assert!(error.message().contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn another_name_is_refused_unless_it_is_the_one_expected() {
    let authority = Authority::new();
    let address = authority.serve("vault.internal", None).await;
    let trusting = at(&address).ca_cert_pem(authority.pem.clone());
    let error = trusting.clone().build().unwrap().read(&token(), "kv/x").await.unwrap_err();
    assert!(error.message().contains("VAULT_TLS_SERVER_NAME"), "{error}");
    let error = trusting
        .clone()
        .tls_server_name("vault.other")
        .build()
        .unwrap()
        .read(&token(), "kv/x")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);

    for address in [address.clone(), address.replace("127.0.0.1", "localhost")] {
        let client = trusting.clone().address(&address).tls_server_name("vault.internal").build().unwrap();
        let answer = client.read(&token(), "kv/x").await.unwrap();
        assert_eq!(
            format!("https://{}", answer.data().text("host").unwrap()),
            address,
            "the Host header stays"
        );
    }
    let error = trusting.tls_server_name("10.0.0.1").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn verification_is_skipped_only_when_asked() {
    let address = Authority::new().serve("elsewhere", None).await;
    at(&address).skip_verify(true).build().unwrap().read(&token(), "kv/x").await.unwrap();
    let reads = async |value: &str| {
        let lookup = |name: &str| match name {
            "VAULT_ADDR" => Some(address.clone()),
            "VAULT_SKIP_VERIFY" => Some(value.to_owned()),
            _ => None,
        };
        Builder::from_lookup(lookup).unwrap().build().unwrap().read(&token(), "kv/x").await
    };
    reads("true").await.unwrap();
    // vaultrs takes set but empty for a yes.
    for value in ["", "false", "0"] {
        assert_eq!(reads(value).await.unwrap_err().kind(), ErrorKind::Unreachable, "{value:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let address = authority.serve("127.0.0.1", Some(&clients)).await;
    let trusting = at(&address).ca_cert_pem(authority.pem.clone());
    let leaf = clients.issue("client");
    let client =
        trusting.clone().client_cert_pem(leaf.certificate.clone(), leaf.key.clone()).build().unwrap();
    client.read(&token(), "kv/x").await.unwrap();
    assert_hidden(&client, &["PRIVATE"]);

    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    fs::write(&certificate, &leaf.certificate).unwrap();
    fs::write(&key, &leaf.key).unwrap();
    let client = trusting.clone().client_cert_files(&certificate, &key).build().unwrap();
    client.read(&token(), "kv/x").await.unwrap();

    let stranger = Authority::new().issue("client");
    for builder in [trusting.clone(), trusting.client_cert_pem(stranger.certificate, stranger.key)] {
        let error = builder.build().unwrap().read(&token(), "kv/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.message().contains("VAULT_CLIENT_CERT"), "{error}");
    }
}

#[tokio::test]
async fn plain_and_tls_are_told_apart() {
    let server = always(wiremock::ResponseTemplate::new(204)).await;
    let error = at(&server.uri().replace("http://", "https://"))
        .build()
        .unwrap()
        .read(&token(), "kv/x")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("does not speak TLS"), "{error}");

    let server = always(
        wiremock::ResponseTemplate::new(400)
            .set_body_string("Client sent an HTTP request to an HTTPS server.\n"),
    )
    .await;
    let error = client(&server).read(&token(), "kv/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.message().contains("https://"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let nothing = write("nothing.pem", "hunter2");
    let broken = write("broken.pem", "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let missing = folder.path().join("missing.pem");
    for (builder, place) in [
        (Client::builder().ca_cert_file(&missing), &missing),
        (Client::builder().ca_cert_file(&nothing), &nothing),
        (Client::builder().ca_cert_file(&broken), &broken),
        (Client::builder().ca_cert_folder(&empty), &empty),
        (Client::builder().ca_cert_folder(&missing), &missing),
        (Client::builder().client_cert_files(&missing, &nothing), &missing),
        (Client::builder().client_cert_files(&nothing, &nothing), &nothing),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains(&place.display().to_string()), "{error}");
        assert!(!shown(&error).contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn an_authority_that_is_replaced_on_disk_is_used_by_the_next_request() {
    let (before, after) = (Authority::new(), Authority::new());
    let (old, new) = (before.serve("127.0.0.1", None).await, after.serve("127.0.0.1", None).await);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    fs::write(&ca, &before.pem).unwrap();
    let client = |address: &str| at(address).ca_cert_file(&ca).build().unwrap();
    let (to_old, to_new) = (client(&old), client(&new));
    to_old.read(&token(), "kv/x").await.unwrap();
    to_new.read(&token(), "kv/x").await.unwrap_err();

    // A file cut short is left alone; what works goes on working.
    fs::write(&ca, "-----BEGIN CERT").unwrap();
    to_old.read(&token(), "kv/x").await.unwrap();

    // As cert-manager and the kubelet do: a new file in the old one's place.
    let fresh = folder.path().join("fresh");
    fs::write(&fresh, &after.pem).unwrap();
    fs::rename(&fresh, &ca).unwrap();
    to_new.read(&token(), "kv/x").await.unwrap();
}
