//! A proxy in front of OpenBao that counts requests and answers in its stead.

mod fault;

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{
    Request as HttpRequest, Response,
    body::{Bytes, Incoming},
    header::{self, HeaderMap},
};
use tokio::time::Instant;

pub use fault::Fault;
use fault::{garbled, invented, pass, truncated};

use crate::{
    backstage::Backstage,
    error::{Error, Result},
    serve::{Answer, Server, whole},
};

/// A plain HTTP proxy that remembers what was asked, and can be told to answer itself.
///
/// It never keeps a header or a body, so no secret stays in it.
#[derive(Debug)]
pub struct Recorder {
    server: Server,
    state: Arc<State>,
    _backstage: Backstage,
}

/// A request that came through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The method, `LIST` included.
    pub method: String,
    /// The path, such as `/v1/database/creds/pipeline`, without the query.
    pub path: String,
    /// The status of the answer; `None` while there is none, and when the connection was dropped.
    pub status: Option<u16>,
    /// When it came.
    pub at: Instant,
    /// How long the answer took.
    pub took: Duration,
    /// Whether a [`Fault`] had a hand in it.
    pub faulty: bool,
}

#[derive(Debug)]
struct State {
    target: String,
    client: reqwest::Client,
    requests: Mutex<Vec<Request>>,
    faults: Mutex<Vec<Planned>>,
}

#[derive(Debug)]
struct Planned {
    prefix: String,
    fault: Fault,
    times: usize,
}

impl Recorder {
    /// Starts a proxy in front of a plain HTTP address.
    pub fn start(target: impl Into<String>) -> Result<Self> {
        let backstage = Backstage::new()?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // A pooled connection to a server that was killed would fail a request that a new one serves.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Error::Unanswered {
                request: "the recorder".into(),
                reason: error.to_string(),
            })?;
        let state = Arc::new(State {
            target: target.into(),
            client,
            requests: Mutex::default(),
            faults: Mutex::default(),
        });
        let shared = state.clone();
        let server = Server::start(&backstage, (Ipv4Addr::LOCALHOST, 0), None, move |request| {
            handle(shared.clone(), request)
        })?;
        Ok(Self { server, state, _backstage: backstage })
    }

    /// The address to give to a client instead of the server's.
    pub fn address(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Every request since the start, or since [`Recorder::clear`], in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// How many requests had this method and a path that begins so.
    pub fn count(&self, method: &str, prefix: &str) -> usize {
        let requests = lock(&self.state.requests);
        requests.iter().filter(|request| request.method == method && request.path.starts_with(prefix)).count()
    }

    /// Forgets the requests; those without an answer yet are forgotten as well.
    pub fn clear(&self) {
        lock(&self.state.requests).clear();
    }

    /// Plans a fault for the next so many requests whose path begins so; `usize::MAX` for all of them.
    ///
    /// Where several apply, the one planned first comes first.
    pub fn fault(&self, prefix: impl Into<String>, fault: Fault, times: usize) {
        lock(&self.state.faults).push(Planned { prefix: prefix.into(), fault, times });
    }

    /// Forgets the planned faults.
    pub fn heal(&self) {
        lock(&self.state.faults).clear();
    }
}

async fn handle(state: Arc<State>, request: HttpRequest<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let fault = state.planned(&path);
    let at = Instant::now();
    let entry = Request {
        method: request.method().to_string(),
        path,
        status: None,
        at,
        took: Duration::ZERO,
        faulty: fault.is_some(),
    };
    lock(&state.requests).push(entry.clone());
    let answer = match fault {
        Some(Fault::Drop) => None,
        Some(Fault::Answer { status, headers, body }) => Some(invented(status, &headers, body)),
        Some(Fault::Lose) => {
            state.forward(request).await;
            None
        }
        Some(Fault::Delay(delay)) => {
            pass(delay).await;
            state.answer(request).await
        }
        Some(Fault::Late(delay)) => {
            let answer = state.answer(request).await;
            pass(delay).await;
            answer
        }
        Some(Fault::Truncate(length)) => state.forward(request).await.map(|answer| truncated(answer, length)),
        Some(Fault::Garble) => state.forward(request).await.map(garbled),
        None => state.answer(request).await,
    };
    let mut requests = lock(&state.requests);
    if let Some(entry) = requests.iter_mut().find(|other| **other == entry) {
        entry.status = answer.as_ref().map(|answer| answer.status().as_u16());
        entry.took = at.elapsed();
    }
    answer
}

impl State {
    fn planned(&self, path: &str) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let index =
            faults.iter().position(|planned| path.starts_with(&planned.prefix) && planned.times > 0)?;
        let planned = &mut faults[index];
        if planned.times != usize::MAX {
            planned.times -= 1;
        }
        Some(planned.fault.clone())
    }

    async fn answer(&self, request: HttpRequest<Incoming>) -> Answer {
        Some(self.forward(request).await?.map(whole))
    }

    /// Passes a request on; a server that does not answer becomes a dropped connection.
    async fn forward(&self, request: HttpRequest<Incoming>) -> Option<Response<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}{path}", self.target);
        let headers = end_to_end(parts.headers);
        let asked = self.client.request(parts.method, url).headers(headers).body(body).send().await;
        let answer =
            asked.inspect_err(|error| tracing::debug!(%error, "the recorder's server did not answer"));
        let answer = answer.ok()?;
        let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
        let mut response = Response::new(answer.bytes().await.ok()?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Some(response)
    }
}

/// Drops the headers that concern one connection only.
pub(crate) fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    headers
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
