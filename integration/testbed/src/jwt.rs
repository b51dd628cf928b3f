//! Service-account tokens, signed as a cluster signs them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    pki::crypto,
};

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A cluster's key for service-account tokens.
pub(crate) struct Signer {
    key: EncodingKey,
    public: DecodingKey,
    public_pem: String,
}

/// What a service-account token says; the default is what the role accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account's name.
    pub name: String,
    /// Whom the token is for.
    pub audience: String,
    /// How long the token is valid; `None` makes one that expired a minute ago.
    pub expires_in: Option<Duration>,
    /// When the token begins to be valid, from now.
    pub starts_in: Duration,
    /// Whether a key signs it that is not the cluster's.
    pub forged: bool,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            name: "pipeline".into(),
            audience: "openbao".into(),
            expires_in: Some(Duration::from_secs(3607)),
            starts_in: Duration::ZERO,
            forged: false,
        }
    }
}

impl Signer {
    pub(crate) fn new() -> Result<Self> {
        let key = KeyPair::generate().map_err(crypto)?;
        let failed = |error: jsonwebtoken::errors::Error| Error::Crypto(error.to_string());
        Ok(Self {
            key: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).map_err(failed)?,
            public: DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).map_err(failed)?,
            public_pem: key.public_key_pem(),
        })
    }

    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Makes a token like those that the kubelet puts into a pod.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (issued, expires) = match claims.expires_in {
            Some(valid) => (now, now + valid.as_secs()),
            None => (now - 3667, now - 60),
        };
        let Claims { namespace, name, audience, .. } = claims;
        let body = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "aud": [audience],
            "iat": issued,
            "nbf": issued + claims.starts_in.as_secs(),
            "exp": expires,
            "jti": uuid(),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": { "name": format!("{name}-5d9c7b8f6-x2x4q"), "uid": uuid() },
                "serviceaccount": { "name": name, "uid": account_uid(namespace, name) },
            },
        });
        let header = Header { kid: Some("testbed".into()), ..Header::new(Algorithm::ES256) };
        encode(&header, &body, &self.key).map_err(|error| Error::Crypto(error.to_string()))
    }

    /// Checks a token's signature, issuer and times, and returns its claims.
    pub(crate) fn verify(&self, token: &str) -> Result<Value, jsonwebtoken::errors::Error> {
        let mut checks = Validation::new(Algorithm::ES256);
        checks.set_issuer(&[ISSUER]);
        checks.set_required_spec_claims(&["exp", "nbf", "iss", "sub", "aud"]);
        checks.validate_nbf = true;
        // The caller knows whom the token should be for.
        checks.validate_aud = false;
        checks.leeway = 0;
        decode::<Value>(token, &self.public, &checks).map(|token| token.claims)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

/// The same account always has the same uid.
fn account_uid(namespace: &str, name: &str) -> String {
    let seed = format!("{namespace}/{name}")
        .bytes()
        .fold(17, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
    uuid_from(&mut fastrand::Rng::with_seed(seed))
}

fn uuid() -> String {
    uuid_from(&mut fastrand::Rng::new())
}

fn uuid_from(random: &mut fastrand::Rng) -> String {
    let (a, b) = (random.u64(..), random.u64(..));
    let (variant, rest) = (0x8000 | (b >> 48 & 0x3fff), b & 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}-4{:03x}-{variant:04x}-{rest:012x}", a >> 32, a >> 16 & 0xffff, a & 0xfff)
}
