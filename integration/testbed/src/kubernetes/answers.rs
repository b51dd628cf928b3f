//! What it answers, and in which state.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    API_AUDIENCE,
    reviews::{Reviews, strings},
};
use crate::{
    jwt::{Claims, Signer},
    serve::{Answer, Body, whole},
};

/// Where a real API server answers.
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

#[derive(Debug)]
pub(super) struct State {
    reviews: Reviews,
    pub(super) signer: Arc<Signer>,
    pub(super) asked: AtomicUsize,
    /// Whether the reviewer has the role `system:auth-delegator`.
    pub(super) reviewer_may: AtomicBool,
    pub(super) trouble: Mutex<Trouble>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) delay: Duration,
    /// A status, and after how many seconds to try again.
    pub(super) refusal: Option<(StatusCode, Option<u64>)>,
}

impl State {
    pub(super) fn new(signer: &Arc<Signer>) -> Self {
        Self {
            reviews: Reviews::new(signer.clone()),
            signer: signer.clone(),
            asked: AtomicUsize::new(0),
            reviewer_may: AtomicBool::new(true),
            trouble: Mutex::default(),
        }
    }

    /// The answer to somebody who may not ask.
    fn refused(&self, bearer: Option<&str>) -> Option<Response<Body>> {
        let user = match bearer {
            None => "system:anonymous".to_owned(),
            Some(token) => match self.reviews.authenticate(token, &[API_AUDIENCE.to_owned()]) {
                Ok(status) => status["user"]["username"].as_str().unwrap_or_default().to_owned(),
                Err(_) => return Some(failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")),
            },
        };
        if user == Claims::reviewer().user() && self.reviewer_may.load(Ordering::Acquire) {
            return None;
        }
        let message = format!(
            "tokenreviews.authentication.k8s.io is forbidden: User {user:?} cannot create resource \"tokenreviews\" \
             in API group \"authentication.k8s.io\" at the cluster scope"
        );
        Some(failure(StatusCode::FORBIDDEN, "Forbidden", &message))
    }
}

/// Answers as a server that is in such a state.
pub(super) async fn answer(state: Arc<State>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    state.asked.fetch_add(1, Ordering::AcqRel);
    let trouble = *lock(&state.trouble);
    sleep_until(Instant::now() + trouble.delay).await;
    if let Some((status, retry_after)) = trouble.refusal {
        return Some(refusal(status, retry_after));
    }
    if parts.method != Method::POST || parts.uri.path() != PATH {
        let message = "the server could not find the requested resource";
        return Some(failure(StatusCode::NOT_FOUND, "NotFound", message));
    }
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(refused) = state.refused(bearer.and_then(|value| value.strip_prefix("Bearer "))) {
        return Some(refused);
    }
    let body = body.collect().await.ok()?.to_bytes();
    let Ok(review) = serde_json::from_slice::<Value>(&body) else {
        let message = "the body of the request is no TokenReview";
        return Some(failure(StatusCode::BAD_REQUEST, "BadRequest", message));
    };
    let spec = &review["spec"];
    let mut audiences = strings(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(API_AUDIENCE.into());
    }
    let token = spec["token"].as_str().unwrap_or_default();
    let status = match state.reviews.authenticate(token, &audiences) {
        Ok(status) => status,
        Err(error) => json!({ "user": {}, "error": error }),
    };
    Some(reply(
        StatusCode::CREATED,
        &json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": { "creationTimestamp": null },
            "spec": spec,
            "status": status,
        }),
    ))
}

/// An answer of a server that has too much to do is plain text; others are a `Status`.
fn refusal(status: StatusCode, retry_after: Option<u64>) -> Response<Body> {
    let mut response = if status == StatusCode::TOO_MANY_REQUESTS {
        let mut response = Response::new(whole("Too many requests, please try again later.\n"));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    } else {
        let reason: String = status.canonical_reason().unwrap_or_default().split(' ').collect();
        failure(status, &reason, "an error on the server has prevented the request from succeeding")
    };
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status.as_u16(),
    });
    reply(status, &body)
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(whole(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
