//! Settings of a client.

use std::{fmt, path::PathBuf, time::Duration};

use leasehold_core::Result;

use crate::{
    Client, configuration, environment,
    tls::{Authorities, ClientCertificate, Tls},
};

/// Settings of a [`Client`]. Each setter replaces what was set before, but for [`redirect_to`](Self::redirect_to).
///
/// ```
/// # use std::time::Duration;
/// use leasehold_vault::Client;
///
/// let client = Client::builder()
///     .address("http://127.0.0.1:8200")
///     .namespace("teams/pipeline")
///     .timeout(Duration::from_secs(5))
///     .build()?;
/// # Ok::<(), leasehold_core::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Builder {
    pub(crate) address: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) nodes: Vec<String>,
    pub(crate) tls: Tls,
    #[cfg(feature = "test-util")]
    pub(crate) transport: Option<std::sync::Arc<dyn crate::Transport>>,
}

impl Builder {
    /// The settings that the process's environment gives, as [`Client::from_env`] reads them; what is set afterwards wins.
    ///
    /// # Errors
    /// [`Configuration`](leasehold_core::ErrorKind::Configuration), naming the variable.
    ///
    /// ```
    /// use std::time::Duration;
    /// use leasehold_vault::Builder;
    ///
    /// let builder = Builder::from_env()?.timeout(Duration::from_secs(3));
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    pub fn from_env() -> Result<Self> {
        // What is not Unicode becomes something that cannot be used, rather than something that is not set.
        Self::from_lookup(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// The settings that `lookup` gives in place of the environment.
    ///
    /// # Errors
    /// [`Configuration`](leasehold_core::ErrorKind::Configuration), naming the variable.
    ///
    /// ```
    /// use leasehold_vault::Builder;
    ///
    /// let lookup = |name: &str| (name == "BAO_ADDR").then(|| "http://127.0.0.1:8200".to_owned());
    /// let client = Builder::from_lookup(lookup)?.build()?;
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        environment::read(&lookup)
    }

    /// Where the server is: `http://` or `https://`, a host, perhaps a port and a path in front of `/v1`. The default is
    /// that of the official clients, `https://127.0.0.1:8200`.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The namespace of all requests.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// How long a whole request may take, redirects included; 10 s by default, and at most half of it to connect. A
    /// keeper makes one attempt at a time, so a long timeout delays the next one.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A file with the certificates (PEM) of the only authorities to trust, in place of the system's.
    ///
    /// ```
    /// use leasehold_vault::Client;
    ///
    /// let error = Client::builder().ca_cert_file("/no/such/ca.pem").build().unwrap_err();
    /// assert!(error.message().contains("/no/such/ca.pem"));
    /// ```
    pub fn ca_cert_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.authorities = Authorities::File(path.into());
        self
    }

    /// A folder of such files.
    pub fn ca_cert_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.authorities = Authorities::Folder(path.into());
        self
    }

    /// The certificates (PEM) of the only authorities to trust, in place of the system's.
    pub fn ca_cert_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.authorities = Authorities::Pem(pem.into());
        self
    }

    /// Files with the certificate chain and the key (PEM) by which this client shows who it is. They are read again
    /// when they have changed.
    pub fn client_cert_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.client = Some(ClientCertificate::Files { certificate: certificate.into(), key: key.into() });
        self
    }

    /// The certificate chain and the key (PEM) by which this client shows who it is.
    pub fn client_cert_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some(ClientCertificate::Pem { certificate: certificate.into(), key: key.into() });
        self
    }

    /// The name that the server's certificate is for, where it is not the address's: behind a tunnel, or by IP address.
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// Accepts any certificate of the server.
    ///
    /// **Dangerous**: whoever is on the way can read the service account's JWT, the token and the database's password.
    /// It is logged as a warning each time a client is built. Name the authority with
    /// [`ca_cert_file`](Self::ca_cert_file) instead.
    pub fn skip_verify(mut self, skip: bool) -> Self {
        self.tls.skip_verify = skip;
        self
    }

    /// Adds the address of a node that redirects may lead to, such as the cluster's other members behind their own names.
    /// A redirect to anywhere else is an error: following it would hand the token to whoever sent it.
    ///
    /// ```
    /// use leasehold_vault::Client;
    ///
    /// let client = Client::builder()
    ///     .address("https://vault.example:8200")
    ///     .redirect_to("https://vault-0.example:8200")
    ///     .redirect_to("https://vault-1.example:8200")
    ///     .build()?;
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    pub fn redirect_to(mut self, node: impl Into<String>) -> Self {
        self.nodes.push(node.into());
        self
    }

    /// Puts a simulated server in place of the network. The address is then only a name, and need not be reachable.
    #[cfg(feature = "test-util")]
    pub fn transport(mut self, transport: std::sync::Arc<dyn crate::Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Makes the client. Nothing is sent.
    ///
    /// # Errors
    /// [`Configuration`](leasehold_core::ErrorKind::Configuration) if a setting, an address or a certificate cannot be used.
    pub fn build(self) -> Result<Client> {
        Client::new(&self)
    }

    pub(crate) fn checked_timeout(&self) -> Result<Duration> {
        match self.timeout.unwrap_or(DEFAULT_TIMEOUT) {
            Duration::ZERO => Err(configuration("a timeout of zero leaves no time for any request")),
            timeout => Ok(timeout),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No address: until it is checked it may hold a password.
        f.debug_struct("Builder")
            .field("namespace", &self.namespace)
            .field("timeout", &self.timeout)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

pub(crate) const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
