//! What an answer that is no success means.

use std::time::Duration;

use leasehold_core::{Error, ErrorKind, Party};
use serde::Deserialize;
use serde_json::Value;

use crate::{call::Asked, scrub::Secrets};

/// An answer that is no success, reduced to what its meaning depends on.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The server's own words, scrubbed; empty where there are none or they are not JSON, which is never quoted.
    pub(crate) said: String,
    pub(crate) json: bool,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: u16, body: &[u8], retry_after: Option<Duration>, secrets: &Secrets) -> Self {
        // What Go's TLS server says to whoever speaks plain HTTP: a constant, so it may be repeated.
        if body.starts_with(PLAIN_HTTP.as_bytes()) {
            return Self { status, said: PLAIN_HTTP.to_owned(), json: false, retry_after };
        }
        match serde_json::from_slice::<Refused>(body) {
            Ok(refused) => Self { status, said: secrets.scrub(&refused.words()), json: true, retry_after },
            Err(_) => Self { status, said: String::new(), json: false, retry_after },
        }
    }
}

#[derive(Deserialize)]
struct Refused {
    errors: Option<Vec<Value>>,
    warnings: Option<Vec<Value>>,
}

impl Refused {
    /// The errors or, in a 404 for a path of the wrong kv version, the warnings.
    fn words(self) -> String {
        let errors = self.errors.filter(|errors| !errors.is_empty()).or(self.warnings).unwrap_or_default();
        errors.iter().filter_map(Value::as_str).map(bare).collect::<Vec<_>>().join("; ")
    }
}

/// Takes off the list that Go puts around a single error.
fn bare(text: &str) -> &str {
    text.strip_prefix("1 error occurred:").map_or(text, |rest| rest.trim_start().trim_start_matches("* "))
}

/// Tells the meaning: the first row that fits; a 5xx without one is a server that failed. Whoever gets `Denied` for something else than `lookup-self` asks that
/// before believing it.
pub(crate) fn classify(asked: &Asked<'_>, refusal: &Refusal) -> Error {
    let said = refusal.said.to_lowercase();
    let row = ROWS.iter().find(|row| row.fits(asked, refusal.status, &said));
    let kind = match row {
        Some(row) => row.kind,
        None if refusal.status >= 500 => ErrorKind::Unreachable,
        None => ErrorKind::Unexpected,
    };
    let party = match kind {
        ErrorKind::DatabaseUnavailable => Party::Database,
        ErrorKind::Configuration => Party::Configuration,
        _ => Party::Vault,
    };
    Error::new(kind, party, message(kind, asked, refusal)).with_retry_after(refusal.retry_after)
}

struct Row {
    statuses: &'static [u16],
    on: On,
    /// One of these must be in the server's words; none stands for any words.
    says: &'static [&'static str],
    kind: ErrorKind,
}

impl Row {
    fn fits(&self, asked: &Asked<'_>, status: u16, said: &str) -> bool {
        self.statuses.contains(&status)
            && self.on.fits(asked)
            && (self.says.is_empty() || self.says.iter().any(|words| said.contains(words)))
    }
}

#[derive(Clone, Copy)]
enum On {
    Anything,
    /// A request that makes the server speak to the database behind it to issue credentials.
    Credentials,
    /// Renewal and revocation of leases, which make it speak to the database too.
    Leases,
    Login,
    LookupSelf,
    /// Everything but a login: there the server's words speak of what was sent, not of a lease or a token of ours.
    NoLogin,
}

impl On {
    fn fits(self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Anything => true,
            Self::Credentials => {
                !asked.login
                    && asked.path.split('/').any(|segment| matches!(segment, "creds" | "static-creds"))
            }
            Self::Leases => asked.path.starts_with("sys/leases/"),
            Self::Login => asked.login,
            Self::LookupSelf => asked.is_lookup_self(),
            Self::NoLogin => !asked.login,
        }
    }
}

/// The words are those of OpenBao 2.7 (see the tests) and of Vault's source. They are compared in lower case.
const ROWS: &[Row] = &[
    Row { statuses: &[412], on: On::Anything, says: &[], kind: ErrorKind::NotReplicated },
    Row { statuses: &[429], on: On::Anything, says: &[], kind: ErrorKind::RateLimited },
    Row { statuses: &[503], on: On::Anything, says: &["sealed", "standby"], kind: ErrorKind::Sealed },
    Row {
        statuses: &[400],
        on: On::Anything,
        says: &["an http request to an https server"],
        kind: ErrorKind::Configuration,
    },
    // Before "failed to renew entry", in which these may be wrapped.
    Row { statuses: &[400], on: On::NoLogin, says: NOT_RENEWABLE, kind: ErrorKind::NotRenewable },
    Row { statuses: &[400], on: On::NoLogin, says: LEASE_GONE, kind: ErrorKind::LeaseGone },
    // OpenBao answers 400 for a renewal while the database is down, and 500 for an issue.
    Row { statuses: &[400, 500], on: On::Leases, says: DATABASE_DOWN, kind: ErrorKind::DatabaseUnavailable },
    Row { statuses: &[500], on: On::Credentials, says: DATABASE_DOWN, kind: ErrorKind::DatabaseUnavailable },
    Row {
        statuses: &[500],
        on: On::Credentials,
        says: DATABASE_REFUSED,
        kind: ErrorKind::DatabaseUnavailable,
    },
    // Before "could not find role", which it may wrap: the lease is what cannot be renewed.
    Row {
        statuses: &[400, 500],
        on: On::NoLogin,
        says: &["failed to renew entry"],
        kind: ErrorKind::RenewalFailed,
    },
    Row { statuses: &[400, 403], on: On::Login, says: &[], kind: ErrorKind::LoginRefused },
    Row {
        statuses: &[400],
        on: On::NoLogin,
        says: &["wrapping token is not valid"],
        kind: ErrorKind::LoginRefused,
    },
    Row { statuses: &[400], on: On::NoLogin, says: NOT_FOUND, kind: ErrorKind::NotFound },
    // A certificate's names, a database that takes no keys: what was asked for, or what its role says, is to be corrected.
    Row {
        statuses: &[400],
        on: On::NoLogin,
        says: &["not allowed by this role", "unsupported credential_type"],
        kind: ErrorKind::Configuration,
    },
    Row { statuses: &[404, 405], on: On::Anything, says: &[], kind: ErrorKind::NotFound },
    Row { statuses: &[403], on: On::LookupSelf, says: &[], kind: ErrorKind::DeadToken },
    // Vault from 1.17 on says so; OpenBao does not.
    Row { statuses: &[403], on: On::Anything, says: &["invalid token"], kind: ErrorKind::DeadToken },
    Row { statuses: &[403], on: On::Anything, says: &[], kind: ErrorKind::Denied },
    // A proxy's timeout, and replicas that cannot serve the request.
    Row { statuses: &[408, 472, 473], on: On::Anything, says: &[], kind: ErrorKind::Unreachable },
];

const PLAIN_HTTP: &str = "Client sent an HTTP request to an HTTPS server";
const NOT_RENEWABLE: &[&str] = &[
    "not renewable",
    "past the max ttl",
    "batch tokens cannot be",
    "cannot be renewed",
    "token not renewable",
];
const LEASE_GONE: &[&str] =
    &["lease not found", "lease expired", "lease is expired", "lease has expired", "invalid lease"];
const NOT_FOUND: &[&str] =
    &["unknown role", "could not find role", "role not found", "no handler for route", "unsupported path"];
const DATABASE_DOWN: &[&str] = &[
    "bad connection",
    "broken pipe",
    "connection refused",
    "connection reset",
    "context deadline exceeded",
    "database system is",
    "dial tcp",
    "error verifying connection",
    "failed to connect",
    "i/o timeout",
    "invalid connection",
    "no route to host",
    "no such host",
    "sqlstate 08",
    "sqlstate 53",
    "sqlstate 57p",
    "too many clients",
    "too many connections",
    "tuple concurrently updated",
    "unable to start transaction",
];
/// The database answers, but not to Vault's own user, or not to its statements.
const DATABASE_REFUSED: &[&str] = &[
    "access denied for user",
    "failed to execute query",
    "noauth",
    "password authentication failed",
    "sqlstate",
    "wrongpass",
];

fn message(kind: ErrorKind, asked: &Asked<'_>, refusal: &Refusal) -> String {
    let (path, method, status) = (asked.path, asked.method(), refusal.status);
    let said = match (refusal.said.as_str(), refusal.json) {
        ("", true) => String::new(),
        ("", false) => " and no JSON, as if from a proxy".to_owned(),
        (said, _) => format!(": {said}"),
    };
    let answered = format!("{method} {path} was answered {status}{said}");
    match kind {
        ErrorKind::Configuration if refusal.said == PLAIN_HTTP => {
            "the server speaks TLS: its address must begin with https://".to_owned()
        }
        ErrorKind::DatabaseUnavailable => format!("behind {path}{said} ({status})"),
        ErrorKind::DeadToken => format!("the token is no longer valid: {answered}"),
        ErrorKind::Denied => {
            let capability = if asked.write { "update" } else { "read" };
            format!("no `{capability}` on {path} ({status}{said}): add it to the token's policy")
        }
        ErrorKind::LoginRefused if refusal.said == "permission denied" => {
            format!(
                "{answered}, which it says too where no login is mounted, or where it cannot check the JWT"
            )
        }
        ErrorKind::NotFound if said.is_empty() => format!("{answered}: there is nothing"),
        _ => answered,
    }
}

#[cfg(test)]
mod tests;
