//! What a database role gives in place of a password.

use std::fmt;

use leasehold_core::SecretString;
use serde::Deserialize;

/// What a database role of `credential_type` `rsa_private_key` gives: read it with [`Leased`](crate::Leased).
///
/// Of the databases that OpenBao 2.7 brings with it none takes keys; Vault's Snowflake does.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use leasehold_core::{Current, Token, Vault};
/// use leasehold_secrets::{KeyCredentials, Leased};
///
/// # fn example(vault: Arc<dyn Vault>, token: Current<Token>) {
/// let role = Leased::<KeyCredentials>::read(vault, token, "database/creds/pipeline");
/// # }
/// ```
#[derive(Clone, Deserialize)]
pub struct KeyCredentials {
    username: String,
    #[serde(rename = "rsa_private_key")]
    private_key: SecretString,
}

impl KeyCredentials {
    /// The name to log in with.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The private key, PEM.
    pub fn private_key(&self) -> &SecretString {
        &self.private_key
    }
}

impl fmt::Debug for KeyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a database role of `credential_type` `client_certificate` gives: read it with [`Leased`](crate::Leased). The
/// name to log in with is in the certificate.
///
/// Of the databases that OpenBao 2.7 brings with it none takes certificates; Vault's MongoDB Atlas does.
#[derive(Clone, Deserialize)]
pub struct CertificateCredentials {
    username: Option<String>,
    client_certificate: String,
    private_key: SecretString,
}

impl CertificateCredentials {
    /// The name to log in with, where the server tells it.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.client_certificate
    }

    /// The private key, PEM.
    pub fn private_key(&self) -> &SecretString {
        &self.private_key
    }
}

impl fmt::Debug for CertificateCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}
