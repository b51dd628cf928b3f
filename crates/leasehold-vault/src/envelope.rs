//! What the server wraps its answers in.

use std::time::Duration;

use leasehold_core::{Answer, Auth, Lease, Result, SecretString, TokenKind, Uses};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{scrub::Secrets, unexpected};

/// Reads the body of a 2xx answer. An empty one says nothing, and says so.
///
/// # Errors
/// `Unexpected` if it is no envelope. The body is never quoted, nor serde's error, which quotes values.
pub(crate) fn read(body: &[u8], secrets: &Secrets) -> Result<Answer> {
    if body.trim_ascii().is_empty() {
        return Ok(Answer::empty());
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| {
        unexpected("the answer is not what Vault or OpenBao sends; does a proxy answer for it?")
    })?;
    let data = match envelope.data {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    };
    let warnings = envelope.warnings.unwrap_or_default();
    Ok(Answer::new(
        lease(envelope.lease_id, envelope.lease_duration, envelope.renewable),
        data,
        envelope.auth.and_then(Granted::into_auth),
        warnings.iter().map(|text| secrets.scrub(text)).collect(),
    ))
}

/// Everything is optional: vaultrs's own envelope refuses what OpenBao leaves out, and its typed reads drop the lease.
#[derive(Deserialize)]
struct Envelope {
    lease_id: Option<String>,
    lease_duration: Option<u64>,
    renewable: Option<bool>,
    data: Option<Value>,
    auth: Option<Granted>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Granted {
    client_token: Option<SecretText>,
    accessor: Option<String>,
    lease_duration: Option<u64>,
    renewable: Option<bool>,
    token_type: Option<String>,
    num_uses: Option<i64>,
}

/// A text that becomes a secret as it is read.
#[derive(Deserialize)]
#[serde(from = "String")]
struct SecretText(SecretString);

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Granted {
    fn into_auth(self) -> Option<Auth> {
        let kind = match self.token_type.as_deref() {
            Some("batch") => TokenKind::Batch,
            _ => TokenKind::Service,
        };
        // A token has no lease id, and one that lasts no time (root) does not end.
        let uses = self.num_uses.and_then(|uses| u64::try_from(uses).ok()).filter(|uses| *uses > 0);
        let lease = lease(None, self.lease_duration, self.renewable).with_uses(uses.map(Uses::new));
        Some(Auth::new(self.client_token?.0, self.accessor.unwrap_or_default(), kind, lease))
    }
}

fn lease(id: Option<String>, seconds: Option<u64>, renewable: Option<bool>) -> Lease {
    let (id, seconds) = (id.unwrap_or_default(), seconds.unwrap_or_default());
    if id.is_empty() && seconds == 0 {
        return Lease::endless();
    }
    Lease::new(id, Duration::from_secs(seconds), renewable.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use leasehold_core::{ErrorKind, ExposeSecret};

    use super::*;

    fn answer(body: &str) -> Answer {
        read(body.as_bytes(), &Secrets::default()).unwrap()
    }

    #[test]
    fn leases_are_kept() {
        let table = [
            ("", Lease::endless()),
            (" \n", Lease::endless()),
            ("{}", Lease::endless()),
            (r#"{"lease_id":"","lease_duration":0,"renewable":false}"#, Lease::endless()),
            (r#"{"lease_id":null,"lease_duration":null,"renewable":null}"#, Lease::endless()),
            (
                r#"{"lease_id":"database/creds/a/b","lease_duration":30,"renewable":true,"data":null}"#,
                Lease::new("database/creds/a/b", Duration::from_secs(30), true),
            ),
            // kv version 1 answers a hint without a lease.
            (
                r#"{"lease_id":"","lease_duration":2764800}"#,
                Lease::new("", Duration::from_secs(2_764_800), false),
            ),
            // The end is now, which is not the same as never.
            (r#"{"lease_id":"a","lease_duration":0}"#, Lease::new("a", Duration::ZERO, false)),
        ];
        for (body, lease) in table {
            assert_eq!(answer(body).lease(), &lease, "{body}");
        }
    }

    #[test]
    fn data_may_be_anything() {
        for body in [r#"{"data":null}"#, r#"{"data":"x"}"#, r#"{"data":[1]}"#, r#"{"data":3}"#, "{}"] {
            assert!(answer(body).data().text("x").is_err(), "{body}");
        }
        assert_eq!(answer(r#"{"data":{"x":"y"}}"#).data().text("x").unwrap(), "y");
    }

    #[test]
    fn tokens_are_read() {
        let auth = |body: &str| answer(body).auth().cloned();
        let service = auth(
            r#"{"auth":{"client_token":"s.x","accessor":"acc","lease_duration":60,"renewable":true,"token_type":"service"}}"#,
        )
        .unwrap();
        assert_eq!(service.lease(), &Lease::new("", Duration::from_secs(60), true));
        assert_eq!(service.token().value().expose_secret(), "s.x");
        assert_eq!(service.token().accessor(), Some("acc"));
        assert!(service.token().revocable());

        let batch =
            auth(r#"{"auth":{"client_token":"b.x","accessor":"","lease_duration":60,"token_type":"batch"}}"#)
                .unwrap();
        assert_eq!((batch.token().kind(), batch.token().accessor()), (TokenKind::Batch, None));

        let few = auth(r#"{"auth":{"client_token":"s.x","lease_duration":60,"num_uses":4}}"#).unwrap();
        assert_eq!(few.token().uses().map(Uses::left), Some(4));
        let unlimited = auth(r#"{"auth":{"client_token":"s.x","lease_duration":60,"num_uses":0}}"#).unwrap();
        assert!(unlimited.token().uses().is_none());

        let root = auth(r#"{"auth":{"client_token":"root","lease_duration":0}}"#).unwrap();
        assert_eq!(root.lease(), &Lease::endless());

        assert!(auth(r#"{"auth":null}"#).is_none());
        assert!(auth(r#"{"auth":{"mfa_requirement":{}}}"#).is_none());
    }

    #[test]
    fn what_is_no_envelope_is_never_quoted() {
        for body in [
            "<html>hunter2</html>",
            r#"{"lease_duration":"hunter2"}"#,
            r#"["hunter2"]"#,
            r#""hunter2""#,
            r#"{"lease_duration":-1}"#,
            r#"{"data":{"password":"hunter2""#,
        ] {
            let error = read(body.as_bytes(), &Secrets::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unexpected);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
