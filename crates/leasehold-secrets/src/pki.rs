//! Certificates.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use leasehold_core::{
    Body, Current, Error, ErrorKind, Fields, Grant, Lease, Party, Provider, Record, Renewed, Result, Revoked,
    SecretString, Token, Vault, async_trait,
};
use serde::Deserialize;

use crate::access::{Access, Request, at, not_renewable, trimmed};

/// A certificate and its key from a role of the pki engine, `<mount>/issue/<role>`; reissued before it expires.
///
/// The key is made by the server, and is in memory only. The certificate outlives the token it was issued with, and is
/// not revoked when it has a successor: give it a short TTL. (A role with `generate_lease` makes it a lease, which ends
/// with the token and is revoked as soon as nothing uses it.)
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use leasehold_core::{Current, Token, Vault};
/// use leasehold_secrets::Pki;
///
/// # fn example(vault: Arc<dyn Vault>, token: Current<Token>) {
/// let certificate = Pki::new(vault, token, "pipeline", "pipeline.example")
///     .alt_names(["pipeline.default.svc"])
///     .ttl(Duration::from_secs(3600));
/// # }
/// ```
#[derive(Clone)]
pub struct Pki {
    access: Access,
    mount: String,
    role: String,
    body: Body,
}

impl Pki {
    /// A certificate for `common_name`, from the role `role` of the engine mounted at `pki`.
    pub fn new(
        vault: Arc<dyn Vault>,
        token: Current<Token>,
        role: impl Into<String>,
        common_name: &str,
    ) -> Self {
        let body = Body::new()
            .text("common_name", common_name)
            .text("private_key_format", "pkcs8")
            // Whoever checks the chain has the root, or must not take it from us.
            .flag("remove_roots_from_chain", true);
        Self { access: Access::new(vault, token), mount: "pki".to_owned(), role: role.into(), body }
    }

    /// Sets where the engine is mounted.
    #[must_use]
    pub fn mount(mut self, mount: &str) -> Self {
        self.mount = trimmed(mount);
        self
    }

    /// Sets more names, of hosts or mailboxes.
    #[must_use]
    pub fn alt_names<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.with("alt_names", names)
    }

    /// Sets IP addresses that it is for.
    #[must_use]
    pub fn ip_sans<'a>(self, addresses: impl IntoIterator<Item = &'a str>) -> Self {
        self.with("ip_sans", addresses)
    }

    /// Sets URIs that it is for, such as a SPIFFE id.
    #[must_use]
    pub fn uri_sans<'a>(self, uris: impl IntoIterator<Item = &'a str>) -> Self {
        self.with("uri_sans", uris)
    }

    /// Sets how long it is to last; without it, as long as the role says. The role's maximum is not exceeded.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.body = self.body.text("ttl", &format!("{}s", ttl.as_secs()));
        self
    }

    fn with<'a>(mut self, field: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        self.body = self.body.text(field, &names.join(","));
        self
    }

    fn path(&self) -> String {
        format!("{}/issue/{}", self.mount, self.role)
    }

    fn request(&self) -> Request {
        Request { path: self.path(), body: Some(self.body.clone()) }
    }
}

#[async_trait]
impl Provider for Pki {
    type Secret = Certificate;

    async fn issue(&self) -> Result<Grant<Certificate>> {
        let (token, request) = (self.access.token()?, self.request());
        let answer = self.access.ask(&token, &request).await?;
        let is_leased = !answer.lease().id().is_empty();
        let usable = Certificate::of(answer.data()).and_then(|certificate| {
            let lease = if is_leased {
                answer.lease().clone().naming(answer.lease().id())
            } else {
                Lease::new("", lasts(certificate.expires, SystemTime::now())?, false)
            };
            Ok(Grant::new(certificate, lease))
        });
        match usable {
            Ok(grant) if is_leased => Ok(grant.under(token)),
            Ok(grant) => Ok(grant),
            Err(error) => {
                let error = at(&request.path, &error);
                Err(self.access.given_back(token.secret(), answer.lease(), error).await)
            }
        }
    }

    async fn renew(&self, _: &Record<Certificate>) -> Result<Renewed> {
        Err(not_renewable("a certificate is not renewed but replaced"))
    }

    async fn revoke(&self, of: &Record<Certificate>) -> Result<Revoked> {
        self.access.revoke(of).await
    }

    async fn changed(&self, _: &Record<Certificate>) {
        self.access.revived().await
    }

    fn name(&self) -> String {
        self.path()
    }
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// A certificate, what signed it, and its key: all PEM, and all in memory.
#[derive(Clone)]
pub struct Certificate {
    certificate: String,
    intermediates: Vec<String>,
    authority: String,
    private_key: SecretString,
    serial_number: String,
    expires: SystemTime,
}

/// As the server words it.
#[derive(Deserialize)]
struct Wire {
    certificate: String,
    issuing_ca: String,
    #[serde(default)]
    ca_chain: Vec<String>,
    private_key: SecretString,
    serial_number: String,
    expiration: u64,
}

impl Certificate {
    fn of(fields: &Fields) -> Result<Self> {
        let Wire { certificate, issuing_ca, ca_chain, private_key, serial_number, expiration } =
            fields.decode()?;
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(expiration)).ok_or_else(|| {
            let message = "the answer's field `expiration` is later than any date";
            Error::new(ErrorKind::Unexpected, Party::Vault, message)
        })?;
        let (intermediates, authority) = (ca_chain, issuing_ca);
        Ok(Self { certificate, intermediates, authority, private_key, serial_number, expires })
    }

    /// The certificate alone.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The certificate and what leads from it to a root, in the order of a TLS handshake. The root is not in it.
    pub fn chain(&self) -> String {
        let chain = [&self.certificate].into_iter().chain(&self.intermediates);
        chain.map(|pem| format!("{}\n", pem.trim())).collect()
    }

    /// The certificate of whoever signed it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The private key (PKCS #8).
    pub fn private_key(&self) -> &SecretString {
        &self.private_key
    }

    /// Its serial number, by which the engine lists and revokes it.
    pub fn serial_number(&self) -> &str {
        &self.serial_number
    }

    /// When it expires, by the wall clock.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("serial_number", &self.serial_number)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// How long a certificate lasts from now on. Its end is a date, and a peer that checks it looks at a wall clock too.
/// The wall clock is read once, at the issue: from then on the keeper's clock counts.
fn lasts(expires: SystemTime, now: SystemTime) -> Result<Duration> {
    let ttl = expires.duration_since(now).ok().filter(|ttl| !ttl.is_zero());
    ttl.ok_or_else(|| {
        let message = "by this machine's clock the certificate has expired already: is the clock right?";
        Error::new(ErrorKind::Configuration, Party::Configuration, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_is_said_and_makes_no_certificate_of_no_time() {
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(lasts(at(100), at(40)).unwrap(), Duration::from_secs(60));
        for now in [100, 101] {
            assert_eq!(lasts(at(100), at(now)).unwrap_err().kind(), ErrorKind::Configuration);
        }
    }
}
