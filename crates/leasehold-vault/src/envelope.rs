//! What the server wraps its answers in.

use std::time::Duration;

use leasehold_core::{Answer, Auth, Error, Lease, Result, SecretString, TokenKind, Uses};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::{configuration, scrub::Secrets, unexpected};

/// Reads the body of a 2xx answer. An empty one says nothing, and says so.
///
/// # Errors
/// `Unexpected` if it is no envelope, though something may have been made; `Configuration` if a login wants a second factor. The body is never quoted, nor
/// serde's error, which quotes values.
pub(crate) fn read(body: &[u8], secrets: &Secrets) -> Result<Answer> {
    if body.trim_ascii().is_empty() {
        return Ok(Answer::empty());
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| {
        unexpected("the answer is not what Vault or OpenBao sends; does a proxy answer for it?").unanswered()
    })?;
    let auth = match envelope.auth {
        Some(Granted { mfa_requirement: Some(wanted), client_token: None, .. }) => {
            return Err(wants_mfa(&wanted));
        }
        auth => auth.and_then(Granted::into_auth),
    };
    let data = match envelope.data {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    };
    // They must not cost a lease, whatever they are.
    let warnings =
        envelope.warnings.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(Answer::new(
        lease(envelope.lease_id, envelope.lease_duration, envelope.renewable),
        data,
        auth,
        warnings.iter().filter_map(Value::as_str).map(|text| secrets.scrub(text)).collect(),
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
    warnings: Option<Value>,
}

#[derive(Deserialize)]
struct Granted {
    /// The server sends an empty one where it grants none.
    #[serde(default, deserialize_with = "no_empty_one")]
    client_token: Option<SecretString>,
    accessor: Option<String>,
    lease_duration: Option<u64>,
    renewable: Option<bool>,
    token_type: Option<String>,
    num_uses: Option<i64>,
    mfa_requirement: Option<Value>,
}

fn no_empty_one<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.filter(|text| !text.trim().is_empty()).map(SecretString::from))
}

/// Names the methods by their types; everything else in the requirement is nobody's business but the server's.
fn wants_mfa(requirement: &Value) -> Error {
    let constraints = requirement.get("mfa_constraints").and_then(Value::as_object);
    let methods = constraints.into_iter().flat_map(Map::values).filter_map(|any| any.get("any")?.as_array());
    let types = methods.flatten().filter_map(|method| method.get("type")?.as_str());
    let mut types: Vec<_> = types.filter(|name| MFA_METHODS.contains(name)).collect();
    types.dedup();
    let types = if types.is_empty() { String::new() } else { format!(" ({})", types.join(", ")) };
    configuration(format!(
        "the server wants a second factor for this login (MFA{types}), which a service does not have: exempt the mount or \
         the entity from the login enforcement"
    ))
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
        Some(Auth::new(self.client_token?, self.accessor.unwrap_or_default(), kind, lease))
    }
}

fn lease(id: Option<String>, seconds: Option<u64>, renewable: Option<bool>) -> Lease {
    let (id, seconds) = (id.unwrap_or_default(), seconds.unwrap_or_default());
    if id.is_empty() && seconds == 0 {
        return Lease::endless();
    }
    Lease::new(id, Duration::from_secs(seconds), renewable.unwrap_or_default())
}

const MFA_METHODS: &[&str] = &["totp", "okta", "duo", "pingid"];

#[cfg(test)]
mod tests {
    use leasehold_core::{ErrorKind, ExposeSecret, Party};

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
        assert!(auth(r#"{"auth":{"lease_duration":60}}"#).is_none());
        for empty in ["", " ", "\n"] {
            let body = serde_json::json!({ "auth": { "client_token": empty, "lease_duration": 0 } });
            assert!(auth(&body.to_string()).is_none(), "{empty:?} is no token");
        }
    }

    /// The answer of OpenBao 2.7.2 and of Vault 1.21.4 where a login enforcement fits the mount.
    #[test]
    fn a_login_that_wants_a_second_factor_is_said_to() {
        let body = r#"{"request_id":"1","lease_id":"","lease_duration":0,"renewable":false,"data":null,"wrap_info":null,
            "warnings":["A login request was issued that is subject to MFA validation."],"auth":{"client_token":"","accessor":"",
            "policies":null,"metadata":null,"lease_duration":0,"renewable":false,"entity_id":"e","token_type":"","orphan":false,
            "mfa_requirement":{"mfa_request_id":"hunter2","mfa_constraints":{"e":{"any":[{"type":"totp","id":"i","uses_passcode":true},
            {"type":"hunter2 hunter2","id":"i"}]}}},"num_uses":0}}"#;
        let error = read(body.as_bytes(), &Secrets::default()).unwrap_err();
        assert_eq!((error.kind(), error.party()), (ErrorKind::Configuration, Party::Configuration));
        assert!(error.message().contains("MFA") && error.message().contains("totp"), "{error}");
        assert!(!error.message().contains("hunter2") && !error.may_have_been_carried_out(), "{error}");
        let bare = r#"{"auth":{"mfa_requirement":{}}}"#;
        assert!(read(bare.as_bytes(), &Secrets::default()).unwrap_err().message().contains("MFA"));
        let without = r#"{"auth":{"client_token":"s.x","lease_duration":60,"mfa_requirement":null}}"#;
        assert!(answer(without).auth().is_some());
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
