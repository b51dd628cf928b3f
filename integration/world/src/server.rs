//! The simulated server: requests come to it as HTTP, and answers leave it as a status, headers and a body. The real client
//! tells their meaning.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use http::{HeaderValue, Request, Response, StatusCode, header};
use leasehold_core::{Error, ErrorKind, Party, Result, async_trait};
use leasehold_vault::Transport;
use serde_json::Value;

use crate::{
    oracle::{Actor, Asked, Oracle},
    plan::What,
    time::lock,
    truth::{Answer, Given, Truth, errors},
};

pub(crate) struct Server {
    truth: Arc<Truth>,
    oracle: Arc<Oracle>,
    draws: Mutex<Rng>,
    /// The last answers to reads of credentials, with the token that asked: a cache in front has them.
    cached: Mutex<Vec<(String, String, Given, Value)>>,
}

/// A request as the server reads it.
struct Call {
    path: String,
    token: String,
    body: Value,
}

impl Server {
    pub(crate) fn new(truth: Arc<Truth>, oracle: Arc<Oracle>, draws: Rng) -> Self {
        Self { truth, oracle, draws: Mutex::new(draws), cached: Mutex::default() }
    }

    fn draw(&self) -> f64 {
        lock(&self.draws).f64()
    }

    fn is(&self, what: impl Fn(&What) -> bool) -> bool {
        self.truth.now().is(what)
    }

    /// The share of a fault that is under way, drawn: whether it hits this request.
    fn hits(&self, share: impl Fn(&What) -> Option<f64>) -> bool {
        let share = self.truth.now().weather.iter().find_map(share);
        share.is_some_and(|share| self.draw() < share)
    }

    async fn travel(&self) {
        let millis = 1 + (self.draw() * 9.0) as u64;
        self.truth.time.pass(Duration::from_millis(millis)).await;
    }

    async fn dawdle(&self) {
        let slow = self.truth.now().delay(|what| match what {
            What::Slow { millis } => Some(*millis),
            _ => None,
        });
        if let Some(longest) = slow {
            let millis = (longest.as_millis() as f64 * self.draw()) as u64;
            self.truth.time.pass(Duration::from_millis(millis)).await;
        }
    }

    fn carry_out(&self, call: &Call) -> (Answer, Given) {
        if let Some(answer) = self.answer_of_the_cache(call) {
            return answer;
        }
        let behind = self.behind();
        let mut truth = self.truth.now();
        let increment = call.body.get("increment").and_then(seconds);
        let lease = call.body.get("lease_id").and_then(Value::as_str).unwrap_or_default();
        let token = call.token.as_str();
        let role = || call.path.rsplit('-').next().and_then(|role| role.parse().ok()).unwrap_or(usize::MAX);
        let answer = match call.path.as_str() {
            "auth/jwt/login" => return truth.log_in(),
            "auth/token/renew-self" => truth.renew_token(token, increment),
            "auth/token/lookup-self" => truth.look_up(token),
            "auth/token/revoke-self" => truth.revoke_token(token),
            "sys/leases/renew" => truth.renew_lease(token, lease, increment),
            "sys/leases/revoke" => truth.revoke_lease(token, lease),
            path if path.starts_with("database/creds/") => {
                let issued = truth.issue(token, role());
                truth.use_token(token);
                return issued;
            }
            path if path.starts_with("database/static-creds/") => truth.read_static(token, role(), behind),
            _ => (404, serde_json::json!({ "errors": [] })),
        };
        truth.use_token(token);
        (answer, Given::Nothing)
    }

    /// How far the node is behind that answers a read.
    fn behind(&self) -> Duration {
        let lag = self.truth.now().delay(|what| match what {
            What::StandbyLags { millis } => Some(*millis),
            _ => None,
        });
        lag.filter(|_| self.draw() < 0.5).unwrap_or_default()
    }

    fn answer_of_the_cache(&self, call: &Call) -> Option<(Answer, Given)> {
        if !self.is(|what| matches!(what, What::Cache)) {
            return None;
        }
        let cached = lock(&self.cached);
        let (_, _, given, body) =
            cached.iter().find(|(path, token, ..)| *path == call.path && *token == call.token)?;
        Some(((200, body.clone()), given.clone()))
    }

    fn remember(&self, call: &Call, answer: &Answer, given: &Given) {
        if answer.0 == 200 && call.path.starts_with("database/creds/") {
            let mut cached = lock(&self.cached);
            cached.retain(|(path, ..)| *path != call.path);
            cached.push((call.path.clone(), call.token.clone(), given.clone(), answer.1.clone()));
        }
    }
}

#[async_trait]
impl Transport for Server {
    async fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>> {
        let call = Call::read(&request);
        let actor = call.actor();
        let asked = call.asked();
        self.oracle.request(actor, asked);
        if self.is(|what| matches!(what, What::Refused)) {
            return Err(unreachable("connection refused"));
        }
        self.travel().await;
        if let Some(answer) = self.in_front(asked) {
            return Ok(answer);
        }
        let lost = |what: &What| match what {
            What::RequestsLost { share } => Some(*share),
            _ => None,
        };
        if self.is(|what| matches!(what, What::Hangs)) || self.hits(lost) {
            return std::future::pending().await;
        }
        let late = self.draw() < 0.5;
        if late {
            self.dawdle().await;
        }
        let (answer, given) = self.carry_out(&call);
        self.remember(&call, &answer, &given);
        self.oracle.carried_out(actor, asked, &answer, &given);
        if !late {
            self.dawdle().await;
        }
        let lost = |what: &What| match what {
            What::AnswersLost { share } => Some(*share),
            _ => None,
        };
        if self.hits(lost) {
            self.oracle.lost(actor, asked);
            return Err(unreachable("connection reset by peer").unanswered());
        }
        let cut = |what: &What| match what {
            What::AnswersCut { share } => Some(*share),
            _ => None,
        };
        let mut bytes = if answer.1.is_null() { Vec::new() } else { answer.1.to_string().into_bytes() };
        if self.hits(cut) {
            self.oracle.lost(actor, asked);
            bytes.truncate(bytes.len() / 2);
        } else {
            self.oracle.heard(asked, &call.token, answer.0);
        }
        Ok(response(answer.0, bytes, None))
    }
}

impl Server {
    /// The answer of somebody in front of the server, or of a server that carries nothing out.
    fn in_front(&self, asked: Asked) -> Option<Response<Vec<u8>>> {
        let weather = self.truth.now().weather.clone();
        weather.iter().find_map(|what| match *what {
            What::Mesh => Some(response(403, b"<html>RBAC: access denied</html>".to_vec(), None)),
            What::Fails { status, retry_after_s } => {
                let text = if status == 503 { "Vault is sealed" } else { "internal error" };
                Some(response(status, errors(text).to_string().into(), retry_after_s))
            }
            What::Limited { retry_after_s } if matches!(asked, Asked::Login | Asked::Issue) => {
                Some(response(429, errors("request path rate limited").to_string().into(), retry_after_s))
            }
            _ => None,
        })
    }
}

impl Call {
    fn read(request: &Request<Vec<u8>>) -> Self {
        let path = request.uri().path().trim_start_matches("/v1/").to_owned();
        let token = request.headers().get("x-vault-token").and_then(|token| token.to_str().ok());
        let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        Self { path, token: token.unwrap_or_default().to_owned(), body }
    }

    fn actor(&self) -> Actor {
        let lease = self.body.get("lease_id").and_then(Value::as_str).unwrap_or(&self.path);
        let role = lease.split('/').find_map(|part| part.strip_prefix("role-"));
        role.and_then(|role| role.parse().ok()).map_or(Actor::Login, Actor::Role)
    }

    fn asked(&self) -> Asked {
        match self.path.as_str() {
            "auth/jwt/login" => Asked::Login,
            "auth/token/lookup-self" => Asked::LookUp,
            "auth/token/renew-self" | "sys/leases/renew" => Asked::Renew,
            "auth/token/revoke-self" | "sys/leases/revoke" => Asked::Revoke,
            path if path.starts_with("database/static-creds/") => Asked::Read,
            _ => Asked::Issue,
        }
    }
}

/// A duration as the client writes it: a number, or a number with an `s`.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim_end_matches('s').parse().ok())
}

fn response(status: u16, body: Vec<u8>, retry_after_s: Option<u64>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(value) = retry_after_s.and_then(|after| HeaderValue::from_str(&after.to_string()).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn unreachable(why: &str) -> Error {
    Error::new(ErrorKind::Unreachable, Party::Vault, why)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
