//! The testbed's own certificate authority.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::error::{Error, Result};

/// A certificate authority that lives as long as the testbed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM text.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Where the testbed's certificates are, as PEM files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Certificates {
    /// The authority's certificate, which a client must trust.
    pub authority: PathBuf,
    /// The server's certificate.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A client's certificate, for a server that asks for one.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let key = KeyPair::generate().map_err(crypto)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "leasehold-testbed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(crypto)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A client's settings by which it trusts this authority and no other.
    pub(crate) fn trusting(&self) -> Result<Arc<ClientConfig>> {
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes());
        let certificate = certificate.map_err(|error| Error::Crypto(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| Error::Crypto(error.to_string()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions();
        let config = config.map_err(|error| Error::Crypto(error.to_string()))?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    /// Issues a certificate for this machine, by its own names and the one that somebody else knows it by.
    pub(crate) fn server(&self, host: &str) -> Result<Identity> {
        self.issue("localhost", &["localhost", "127.0.0.1", host], ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(crate) fn client(&self) -> Result<Identity> {
        self.issue("pipeline", &["pipeline"], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Writes the authority's certificate, and one each for a server and a client.
    pub(crate) fn write(&self, folder: &Path) -> Result<Certificates> {
        let (server, client) = (self.server("127.0.0.1")?, self.client()?);
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            fs::write(&path, content).map_err(Error::file(&path)).map(|()| path)
        };
        Ok(Certificates {
            authority: write("ca.pem", &self.pem)?,
            server: write("server.pem", &server.certificate)?,
            server_key: write("server-key.pem", &server.key)?,
            client: write("client.pem", &client.certificate)?,
            client_key: write("client-key.pem", &client.key)?,
        })
    }

    fn issue(&self, name: &str, subjects: &[&str], usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        let key = KeyPair::generate().map_err(crypto)?;
        let subjects: Vec<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let mut params = CertificateParams::new(subjects).map_err(crypto)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
pub(crate) fn crypto(error: rcgen::Error) -> Error {
    Error::Crypto(error.to_string())
}
