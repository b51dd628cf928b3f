//! A certificate in rustls's hands.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use leasehold_core::{Current, Error, ErrorKind, ExposeSecret, Generation, Issued, Party, Result};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::Certificate;

/// Shows the current certificate in every new handshake, as a server or as a client. Connections that are open keep
/// theirs; so do sessions that are resumed, in which nobody shows any: turn resumption off where a certificate that has
/// expired must not let anybody in.
///
/// A certificate with a lease (`generate_lease`) is in use while it is shown, and is not revoked before: drop what holds
/// the resolver before the keeper's shut-down.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::{Current, Result};
/// # use leasehold_secrets::Certificate;
/// use leasehold_secrets::CertificateResolver;
///
/// # fn example(certificate: Current<Certificate>) -> Result<()> {
/// let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
/// let resolver = Arc::new(CertificateResolver::new(certificate, provider)?);
/// let config = rustls::ServerConfig::builder()
///     .with_no_client_auth()
///     .with_cert_resolver(resolver);
/// # Ok(()) }
/// ```
pub struct CertificateResolver {
    current: Current<Certificate>,
    provider: Arc<CryptoProvider>,
    read: Mutex<Read>,
}

/// Reading a key costs more than a look at which generation is current.
struct Read {
    latest: Arc<CertifiedKey>,
    /// Who shows it uses it; without a lease there is nothing that use could keep alive.
    _in_use: Option<Arc<Issued<Certificate>>>,
    /// Which generation was looked at last, whether or not it could be used.
    looked_at: Generation,
}

impl CertificateResolver {
    /// A resolver for what `current` holds, whose keys `provider` signs with.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if rustls cannot use the certificate or its key;
    /// [`NotYet`](ErrorKind::NotYet) and [`Closed`](ErrorKind::Closed) if there is none.
    pub fn new(current: Current<Certificate>, provider: Arc<CryptoProvider>) -> Result<Self> {
        let issued = current.get()?;
        let latest = Arc::new(certified(&issued, &provider)?);
        let read = Mutex::new(Read { latest, looked_at: issued.generation(), _in_use: leased(issued) });
        Ok(Self { current, provider, read })
    }

    /// The current one; the one before, while there is a current one that rustls cannot use, or none any more.
    fn latest(&self) -> Arc<CertifiedKey> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(issued) = self.current.get()
            && issued.generation() != read.looked_at
        {
            read.looked_at = issued.generation();
            match certified(&issued, &self.provider) {
                Ok(key) => (read.latest, read._in_use) = (Arc::new(key), leased(issued)),
                Err(error) => self.current.reject(issued.generation(), error.kind()),
            }
        }
        Arc::clone(&read.latest)
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.latest())
    }
}

impl ResolvesClientCert for CertificateResolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.latest())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for CertificateResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateResolver").field("secret", &self.current.name()).finish_non_exhaustive()
    }
}

fn leased(issued: Arc<Issued<Certificate>>) -> Option<Arc<Issued<Certificate>>> {
    (!issued.lease().id().is_empty()).then_some(issued)
}

fn certified(issued: &Issued<Certificate>, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let unusable = |what: &str| {
        let message = format!("rustls cannot use {what} of certificate {}", issued.secret().serial_number());
        Error::new(ErrorKind::Configuration, Party::Configuration, message)
    };
    let chain = issued.secret().chain();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| unusable("the chain"))?;
    let key = issued.secret().private_key().expose_secret();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| unusable("the key"))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|_| unusable("the key, or its pairing with the chain,"))
}
