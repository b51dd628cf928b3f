//! Service-account tokens, signed as a cluster signs them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    kubernetes::{API_AUDIENCE, Kind, Objects, uuid},
    pki::crypto,
};

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// By how much times may be off: by so much go-jose forgives, which an API server checks tokens with.
const LEEWAY: Duration = Duration::from_secs(60);

/// A cluster's key for service-account tokens, and what they can be bound to.
pub(crate) struct Signer {
    key: EncodingKey,
    public: DecodingKey,
    public_pem: String,
    objects: Objects,
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
    /// How long the token is valid; `None` makes one that expired two minutes ago, which nobody forgives.
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

impl Claims {
    /// What the token says that OpenBao shows to the API server to be allowed to ask.
    pub fn reviewer() -> Self {
        Self {
            namespace: "openbao".into(),
            name: "token-reviewer".into(),
            audience: API_AUDIENCE.into(),
            ..Self::default()
        }
    }

    /// The name of the one pod that runs as the account.
    pub(crate) fn pod(&self) -> String {
        format!("{}-5d9c7b8f6-x2x4q", self.name)
    }

    /// The account's name, as the API server calls whoever has such a token.
    pub(crate) fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
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
            objects: Objects::default(),
        })
    }

    /// The accounts and pods there are.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Makes a token like those that the kubelet puts into a pod.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] where the account or its pod was deleted, for an API server gives none then.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String> {
        self.sign_at(claims, 0)
    }

    /// As [`Signer::sign`], as if it were so many seconds later, or earlier.
    pub(crate) fn sign_at(&self, claims: &Claims, later: i64) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = now.saturating_add_signed(later);
        let (issued, expires) = match claims.expires_in {
            Some(valid) => (now, now + valid.as_secs()),
            None => (now - 3727, now - 120),
        };
        let (Claims { namespace, name, audience, .. }, pod) = (claims, claims.pod());
        let account_uid = self.uid(Kind::Account, namespace, name)?;
        let pod_uid = self.uid(Kind::Pod, namespace, &pod)?;
        let body = json!({
            "iss": ISSUER,
            "sub": claims.user(),
            "aud": [audience],
            "iat": issued,
            "nbf": issued + claims.starts_in.as_secs(),
            "exp": expires,
            "jti": uuid(),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": { "name": pod, "uid": pod_uid },
                "serviceaccount": { "name": name, "uid": account_uid },
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
        checks.leeway = LEEWAY.as_secs();
        decode::<Value>(token, &self.public, &checks).map(|token| token.claims)
    }

    fn uid(&self, kind: Kind, namespace: &str, name: &str) -> Result<String> {
        self.objects.uid(kind, namespace, name).ok_or_else(|| Error::Answer {
            server: "the API server",
            request: "TokenRequest".into(),
            status: "404".into(),
            body: format!("{} {name:?} not found", kind.plural()),
        })
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}
