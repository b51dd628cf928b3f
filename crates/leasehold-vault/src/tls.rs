//! Whom we trust, and who we are.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use leasehold_core::Result;
use reqwest::{Certificate, ClientBuilder, Identity};

use crate::configuration;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) authorities: Authorities,
    pub(crate) client: Option<ClientCertificate>,
    pub(crate) server_name: Option<String>,
    pub(crate) skip_verify: bool,
}

#[derive(Clone, Default)]
pub(crate) enum Authorities {
    #[default]
    System,
    File(PathBuf),
    Folder(PathBuf),
    Pem(Vec<u8>),
}

#[derive(Clone)]
pub(crate) enum ClientCertificate {
    Files { certificate: PathBuf, key: PathBuf },
    Pem { certificate: Vec<u8>, key: Vec<u8> },
}

impl Tls {
    /// Puts the settings into a client that will speak TLS to some address.
    pub(crate) fn apply(&self, mut http: ClientBuilder) -> Result<ClientBuilder> {
        // Only these: merged with the system's, anybody with a public certificate could answer for a private server.
        if let Some(certificates) = self.authorities.read()? {
            http = http.tls_certs_only(certificates);
        }
        if let Some(client) = &self.client {
            http = http.identity(client.read()?);
        }
        if self.skip_verify {
            tracing::warn!("TLS verification is off: whoever is on the way to Vault can read every secret");
            http = http.tls_danger_accept_invalid_certs(true);
        }
        Ok(http)
    }
}

impl Tls {
    /// The files that it is read from.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = match &self.authorities {
            Authorities::File(path) => vec![path.clone()],
            Authorities::Folder(path) => {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                entries.map(|entry| entry.path()).chain([path.clone()]).collect()
            }
            Authorities::System | Authorities::Pem(_) => Vec::new(),
        };
        if let Some(ClientCertificate::Files { certificate, key }) = &self.client {
            files.extend([certificate.clone(), key.clone()]);
        }
        files.sort_unstable();
        files
    }
}

impl Authorities {
    fn read(&self) -> Result<Option<Vec<Certificate>>> {
        let (certificates, place) = match self {
            Self::System => return Ok(None),
            Self::File(path) => (parse(&read(path)?, path)?, path.display().to_string()),
            Self::Folder(path) => (read_folder(path)?, path.display().to_string()),
            Self::Pem(pem) => (parse(pem, Path::new("the CA's PEM"))?, "the CA's PEM".to_owned()),
        };
        if certificates.is_empty() {
            return Err(configuration(format!("{place} holds no certificate")));
        }
        Ok(Some(certificates))
    }
}

/// Reads every file of the folder, in which other files than certificates may lie.
fn read_folder(folder: &Path) -> Result<Vec<Certificate>> {
    let wrong = |error: std::io::Error| configuration(format!("cannot read {}: {error}", folder.display()));
    let mut certificates = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        // Follows links: a Kubernetes volume is made of them.
        if path.is_file() {
            certificates.extend(parse(&read(&path)?, &path)?);
        }
    }
    Ok(certificates)
}

impl ClientCertificate {
    fn read(&self) -> Result<Identity> {
        match self {
            Self::Pem { certificate, key } => identity(certificate, key, "the client's PEM"),
            Self::Files { certificate, key } => {
                let places = format!("{} and {}", certificate.display(), key.display());
                identity(&read(certificate)?, &read(key)?, &places)
            }
        }
    }
}

// What the TLS library says of a file is not repeated: for a key that could be too much.

fn parse(pem: &[u8], path: &Path) -> Result<Vec<Certificate>> {
    Certificate::from_pem_bundle(pem)
        .map_err(|_| configuration(format!("{} holds a certificate that cannot be read", path.display())))
}

#[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
fn identity(certificate: &[u8], key: &[u8], places: &str) -> Result<Identity> {
    let pem = [certificate, b"\n", key].concat();
    Identity::from_pem(&pem).map_err(|_| configuration(format!("no client certificate and key in {places}")))
}

#[cfg(not(any(feature = "rustls", feature = "rustls-no-provider")))]
fn identity(certificate: &[u8], key: &[u8], places: &str) -> Result<Identity> {
    Identity::from_pkcs8_pem(certificate, key)
        .map_err(|_| configuration(format!("no client certificate and PKCS #8 key in {places}")))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| configuration(format!("cannot read {}: {error}", path.display())))
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::File(path) | Self::Folder(path) => path.fmt(f),
            Self::Pem(_) => f.write_str("Pem"),
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { certificate, .. } => certificate.fmt(f),
            Self::Pem { .. } => f.write_str("Pem"),
        }
    }
}
