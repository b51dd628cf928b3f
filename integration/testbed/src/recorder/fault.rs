//! What can happen to a request on its way.

use std::{future::pending, time::Duration};

use hyper::{
    Response,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
use tokio::time::timeout;

use crate::serve::{Body, broken_off, whole};

/// What happens to a request, or to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is answered without asking the server.
    Answer {
        /// The status.
        status: u16,
        /// Headers, such as `Retry-After` or `Location`.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// It is forwarded after a while.
    Delay(Duration),
    /// It is forwarded at once, and its answer is held back for a while: longer, perhaps, than what it grants.
    Late(Duration),
    /// It is forwarded. Of the body of its answer so many bytes come, fewer than the head says, and then the connection is closed.
    Truncate(usize),
    /// It is forwarded. In place of the body of its answer comes noise of the same length.
    Garble,
    /// Its connection is closed without an answer, and the server never sees it.
    Drop,
    /// It is forwarded, and then its connection is closed without an answer.
    Lose,
}

impl Fault {
    /// An answer in the shape of OpenBao's errors.
    pub fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [message] }).to_string();
        Self::Answer { status, headers: vec![("Content-Type".into(), "application/json".into())], body }
    }

    /// Adds a `Retry-After` header to an answer.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push(("Retry-After".into(), seconds.to_string()));
        }
        self
    }
}

/// Lets time pass.
pub(super) async fn pass(delay: Duration) {
    let _ = timeout(delay, pending::<()>()).await;
}

/// The head says how long the whole body is.
pub(super) fn truncated(mut answer: Response<Bytes>, length: usize) -> Response<Body> {
    let all = answer.body().len();
    answer.headers_mut().insert(header::CONTENT_LENGTH, all.into());
    answer.map(|body| broken_off(body.slice(..length.min(all.saturating_sub(1)))))
}

pub(super) fn garbled(answer: Response<Bytes>) -> Response<Body> {
    answer.map(|body| {
        // No text in any encoding, so that nobody takes it for one.
        whole(body.iter().map(|_| fastrand::u8(0x80..0xc0)).collect::<Vec<_>>())
    })
}

pub(super) fn invented(status: u16, headers: &[(String, String)], body: String) -> Response<Body> {
    let mut response = Response::new(whole(body));
    *response.status_mut() = status.try_into().unwrap_or_default();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
