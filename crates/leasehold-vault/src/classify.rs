//! What an answer that is no success means.

use std::time::Duration;

use leasehold_core::{Error, ErrorKind, Party};
use serde_json::Value;

use crate::{
    call::{Asked, Login},
    scrub::Secrets,
};

/// An answer that is no success, reduced to what its meaning depends on.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The server's own words, scrubbed; empty where there are none or they are not Vault's JSON, which is never quoted.
    pub(crate) said: String,
    pub(crate) form: Form,
    /// Whether a mesh says that the server took the request and went away before it answered.
    pub(crate) cut_off: bool,
    pub(crate) retry_after: Option<Duration>,
}

/// Tells by its form who gave an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// Vault's and OpenBao's: an object with a list of texts, or with the id of the request.
    #[default]
    Vaults,
    /// JSON of another form, as gateways send it.
    OtherJson,
    /// HTML, plain text, or nothing.
    NoJson,
}

impl Refusal {
    pub(crate) fn new(status: u16, body: &[u8], retry_after: Option<Duration>, secrets: &Secrets) -> Self {
        // What Go's TLS server says to whoever speaks plain HTTP: a constant, so it may be repeated.
        if body.starts_with(PLAIN_HTTP.as_bytes()) {
            return Self { said: PLAIN_HTTP.to_owned(), form: Form::NoJson, ..Self::of(status, retry_after) };
        }
        let (said, form) = match serde_json::from_slice::<Value>(body) {
            Ok(answer) => match words(&answer) {
                Some(words) => (secrets.scrub(&words), Form::Vaults),
                // A version of a kv entry that was deleted is answered 404 with its metadata, and without a word.
                None if answer.get("request_id").is_some_and(Value::is_string) => {
                    (String::new(), Form::Vaults)
                }
                None => (String::new(), Form::OtherJson),
            },
            Err(_) => (String::new(), Form::NoJson),
        };
        let cut_off = form == Form::NoJson && is_cut_off(body);
        Self { said, form, cut_off, ..Self::of(status, retry_after) }
    }

    fn of(status: u16, retry_after: Option<Duration>) -> Self {
        Self { status, retry_after, ..Self::default() }
    }

    /// Whether the server may have carried the request out, going by all that is known of a failure: it is not known to
    /// come before execution, or to have been undone. 503 says that nothing was done, but for a mesh whose server went away.
    fn may_follow_execution(&self, said: &str) -> bool {
        match self.status {
            501 => false,
            503 => self.cut_off,
            500.. => !says(said, NOT_BEGUN) && (!says(said, UNDONE) || says(said, BROKEN_OFF)),
            _ => false,
        }
    }

    /// Whether somebody in front of the server gave it: a mesh, a WAF, an ingress. Its word says nothing of a token, a
    /// policy, a login or a path.
    fn is_of_another(&self) -> bool {
        self.form != Form::Vaults && self.said.is_empty() && matches!(self.status, 400 | 401 | 403..=405)
    }
}

/// Envoy's constant words. Each reason but these comes after the connection was made.
fn is_cut_off(body: &[u8]) -> bool {
    let body = String::from_utf8_lossy(body.get(..LONGEST_REASON).unwrap_or(body)).to_lowercase();
    body.contains("disconnect/reset before headers")
        && !says(&body, &["connection failure", "connection timeout", "connect error: ", "overflow"])
}

fn says(said: &str, words: &[&str]) -> bool {
    words.iter().any(|words| said.contains(words))
}

/// The errors or, in a 404 for a path of the wrong kv version, the warnings. `None` if Vault would not word it so.
fn words(answer: &Value) -> Option<String> {
    let list = |field: &str| {
        let texts = answer.get(field)?.as_array()?.iter().map(Value::as_str);
        texts.collect::<Option<Vec<_>>>()
    };
    let errors = list("errors").filter(|errors| !errors.is_empty());
    let texts = errors.or_else(|| list("warnings")).or_else(|| list("errors"))?;
    Some(texts.into_iter().map(bare).collect::<Vec<_>>().join("; "))
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
        _ if refusal.is_of_another() => ErrorKind::Unreachable,
        _ if asked.login == Login::Jwt && refusal.status == 403 && said == BARE_DENIAL => {
            ErrorKind::LoginDoubtful
        }
        Some(row) => row.kind,
        None if refusal.status >= 500 => ErrorKind::Unreachable,
        None => ErrorKind::Unexpected,
    };
    let party = match kind {
        ErrorKind::DatabaseUnavailable => Party::Database,
        ErrorKind::Configuration => Party::Configuration,
        ErrorKind::Unreachable if asked.logs_in() && says_issuer_away(refusal, &said) => Party::Issuer,
        _ => Party::Vault,
    };
    let error =
        Error::new(kind, party, message(kind, party, asked, refusal)).with_retry_after(refusal.retry_after);
    if kind != ErrorKind::LoginLapsed && refusal.may_follow_execution(&said) {
        error.unanswered()
    } else {
        error
    }
}

fn says_issuer_away(refusal: &Refusal, said: &str) -> bool {
    matches!(refusal.status, 400 | 403) && says(said, ISSUER_AWAY)
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
            && (self.says.is_empty() || says(said, self.says))
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
    JwtLogin,
    LookupSelf,
    TokenRenewal,
    /// Everything but a login: there the server's words speak of what was sent, not of a lease or a token of ours.
    NoLogin,
}

impl On {
    fn fits(self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Anything => true,
            Self::Credentials => {
                !asked.logs_in()
                    && asked.path.split('/').any(|segment| matches!(segment, "creds" | "static-creds"))
            }
            Self::Leases => asked.path.starts_with("sys/leases/"),
            Self::Login => asked.logs_in(),
            Self::JwtLogin => asked.login == Login::Jwt,
            Self::LookupSelf => asked.is_lookup_self(),
            Self::TokenRenewal => asked.path.starts_with("auth/token/renew"),
            Self::NoLogin => !asked.logs_in(),
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
    // The server looks again at the token's login (OpenBao from 2.6.4 and 2.7.1 on): a policy that is
    // missing says "permission denied" and nothing else.
    Row {
        statuses: &[400, 403, 500],
        on: On::TokenRenewal,
        says: &["failed to renew entry"],
        kind: ErrorKind::LoginLapsed,
    },
    // Before "could not find role", which it may wrap: the lease is what cannot be renewed.
    Row {
        statuses: &[400, 403, 500],
        on: On::NoLogin,
        says: &["failed to renew entry"],
        kind: ErrorKind::RenewalFailed,
    },
    // The server could not ask the issuer, so it has refused nobody.
    Row { statuses: &[400, 403], on: On::Login, says: ISSUER_AWAY, kind: ErrorKind::Unreachable },
    Row { statuses: &[400, 403], on: On::JwtLogin, says: NOT_YET_VALID, kind: ErrorKind::LoginDoubtful },
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
/// The server says no more than this to a JWT that is refused, and when it cannot have it checked.
const BARE_DENIAL: &str = "permission denied";
const ISSUER_AWAY: &[&str] = &[
    "connection refused",
    "connection reset",
    "context deadline exceeded",
    "dial tcp",
    "get \"http",
    "i/o timeout",
    "ldap result code 200",
    "no route to host",
    "no such host",
    "post \"http",
];
/// By the server's clock. OpenBao's words, and those of the libraries that it and Vault have used.
const NOT_YET_VALID: &[&str] =
    &["issued in the future", "not before (nbf)", "not valid yet", "not yet valid", "used before issued"];
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

/// In a failure, these say that nothing was begun: the database or the active node was not reached, did not let the server
/// in, or was not asked, since the configuration does not fit.
const NOT_BEGUN: &[&str] = &[
    "active cluster node not found",
    "connection refused",
    "could not load",
    "database system is",
    "dial error",
    "dial tcp",
    "error 1045",
    "error verifying connection",
    "failed to connect",
    "failed to find entry for connection",
    "is not an allowed role",
    "no route to host",
    "no such host",
    "noauth",
    "password authentication failed",
    "sealed",
    "too many clients",
    "too many connections",
    "unable to start transaction",
    "wrongpass",
];
/// PostgreSQL says that a statement failed, with which its transaction is rolled back. MySQL's errors do not count as
/// undone, because they do not undo a `CREATE USER` that went before.
const UNDONE: &[&str] = &["sqlstate"];
/// But these say that it may not have heard how a transaction ended.
const BROKEN_OFF: &[&str] =
    &["sqlstate 08003", "sqlstate 08006", "sqlstate 08007", "sqlstate 57p01", "sqlstate 40003"];
const LONGEST_REASON: usize = 512;

fn message(kind: ErrorKind, party: Party, asked: &Asked<'_>, refusal: &Refusal) -> String {
    let (path, method, status) = (asked.path, asked.method(), refusal.status);
    let said = match (refusal.said.as_str(), refusal.form) {
        ("", Form::Vaults) => String::new(),
        ("", Form::OtherJson) => " and JSON that is not Vault's, as if from a proxy".to_owned(),
        ("", Form::NoJson) => " and no JSON, as if from a proxy".to_owned(),
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
        ErrorKind::LoginDoubtful if refusal.said == BARE_DENIAL => format!(
            "{answered}, which it says to a JWT that is forged, or whose account or pod is gone; where no login is mounted, or \
             none for this address; and where it cannot have the JWT checked, since the API server is away or overloaded, is \
             not trusted, or refuses the reviewer's own JWT. Only the server's debug log tells which"
        ),
        ErrorKind::LoginDoubtful => {
            format!("{answered}: the clocks of the issuer, of the server and of this machine may differ")
        }
        ErrorKind::LoginLapsed => format!(
            "{answered}. The server has looked again at what the token was logged in with, so no policy is at fault, and a new \
             login is needed"
        ),
        ErrorKind::LoginRefused if refusal.said == BARE_DENIAL => format!(
            "{answered}, which it says too where no login is mounted, or none for this address, and for a while after too many \
             refused tries"
        ),
        ErrorKind::Unreachable if party == Party::Issuer => {
            format!("the server cannot reach whoever checks the login: {answered}")
        }
        ErrorKind::NotFound if said.is_empty() => format!("{answered}: there is nothing"),
        _ => answered,
    }
}

#[cfg(test)]
mod tests;
