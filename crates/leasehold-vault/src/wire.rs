//! The way to the server: one attempt, redirects under our own rules, raw answers.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use leasehold_core::{Error, ErrorKind, Party, Result};
use reqwest::redirect::Policy;
use rustify::errors::ClientError;
use url::Url;

use crate::{
    Builder,
    address::{Address, may_follow, shown},
    builder::DEFAULT_ADDRESS,
    configuration,
    failure::explain,
    resolve::Detour,
    unexpected,
};

/// reqwest under rustify's trait. Its `execute` replaces rustify's, which drops the headers of an answer that is no
/// success, puts the body into its error and logs that at ERROR: here every answer is an answer, and a failure travels
/// as an [`Error`] in the extensions of an empty one.
pub(crate) struct Wire {
    pub(crate) http: reqwest::Client,
    pub(crate) home: Address,
    nodes: Vec<Url>,
    server_name: Option<String>,
    #[cfg(feature = "test-util")]
    transport: Option<std::sync::Arc<dyn crate::Transport>>,
}

impl Wire {
    pub(crate) fn new(settings: &Builder) -> Result<Self> {
        let home = Address::parse(settings.address.as_deref().unwrap_or(DEFAULT_ADDRESS))?;
        let nodes =
            settings.nodes.iter().map(|node| Ok(Address::parse(node)?.origin)).collect::<Result<Vec<_>>>()?;
        let timeout = settings.checked_timeout()?;
        require_crypto_provider()?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("leasehold/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            // One attempt is one attempt: only the keeper retries.
            .retry(reqwest::retry::never())
            .timeout(timeout)
            .connect_timeout(timeout / 2)
            // Renewals are minutes apart; by then something on the way may have forgotten an idle connection.
            .pool_idle_timeout(Duration::from_secs(30));
        http = select_backend(http);
        if home.is_plain() && nodes.iter().all(|node| node.scheme() == "http") {
            // Without TLS no authority is needed; an image without any must not keep us from starting (reqwest #2988).
            http = http.tls_certs_only([]);
        } else {
            http = settings.tls.apply(http)?;
        }
        if home.is_loopback() {
            // As Go does: a proxy knows another loopback.
            http = http.no_proxy();
        }
        if let Some(name) = &settings.tls.server_name {
            http = http.no_proxy().dns_resolver(detour(&home, name)?);
        }
        let http = http.build().map_err(|error| {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            configuration(format!("no TLS client can be made with these settings{cause}"))
        })?;
        Ok(Self {
            http,
            home,
            nodes,
            server_name: settings.tls.server_name.clone(),
            #[cfg(feature = "test-util")]
            transport: settings.transport.clone(),
        })
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().map(shown)
    }

    /// Sends the request, and sends it on where a redirect may lead.
    async fn follow(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>> {
        let (parts, body) = request.into_parts();
        let mut url =
            Url::parse(&parts.uri.to_string()).map_err(|_| unexpected("the URL cannot be built"))?;
        let headers = prepared(parts.headers, !body.is_empty());
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send_once(&parts.method, &url, &headers, body.clone()).await?;
            match next(&response, &url, &parts.method)? {
                Some(target) if may_follow(&url, &target, &self.home.origin, &self.nodes) => url = target,
                Some(target) => return Err(refused(&url, &target)),
                None => return answer(response, &url).await,
            }
        }
        Err(redirected(format!("{} redirected more than {MOST_REDIRECTS} times", self.home.shown())))
    }

    async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<reqwest::Response> {
        let (url_on_wire, headers) = self.on_wire(url, headers)?;
        #[cfg(feature = "test-util")]
        if let Some(transport) = &self.transport {
            return simulated(&**transport, method, &url_on_wire, headers, body).await;
        }
        let request = self.http.request(method.clone(), url_on_wire).headers(headers).body(body);
        request.send().await.map_err(|error| explain(&error.without_url(), url))
    }

    /// Puts the certificate's name in place of the address's host, which stays in the `Host` header.
    fn on_wire(&self, url: &Url, headers: &HeaderMap) -> Result<(Url, HeaderMap)> {
        let (mut url, mut headers) = (url.clone(), headers.clone());
        if let Some(name) = self.server_name.as_deref().filter(|_| url.origin() == self.home.origin.origin())
        {
            let shown = shown(&url);
            let host = shown.split_once("://").map_or("", |(_, host)| host);
            if let Ok(host) = HeaderValue::from_str(host) {
                headers.insert(header::HOST, host);
            }
            url.set_host(Some(name)).map_err(|_| configuration("the TLS server name is no name"))?;
        }
        Ok((url, headers))
    }
}

#[async_trait]
impl rustify::client::Client for Wire {
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.execute(request).await
    }

    fn base(&self) -> &str {
        self.home.origin.as_str()
    }

    async fn execute(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        Ok(self.follow(request).await.unwrap_or_else(|error| {
            let mut nothing = Response::default();
            nothing.extensions_mut().insert(error);
            nothing
        }))
    }
}

#[cfg(feature = "test-util")]
async fn simulated(
    transport: &dyn crate::Transport,
    method: &Method,
    url: &Url,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<reqwest::Response> {
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = url.as_str().parse().map_err(|_| unexpected("the URL cannot be built"))?;
    *request.headers_mut() = headers;
    Ok(transport.answer(request).await?.into())
}

fn prepared(mut headers: HeaderMap, has_body: bool) -> HeaderMap {
    if let Some(token) = headers.get_mut("x-vault-token") {
        token.set_sensitive(true);
    }
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers
}

/// Where the answer sends us, if it does. A 301 or 302 turns a write into a read, so those count for reads only.
fn next(response: &reqwest::Response, url: &Url, method: &Method) -> Result<Option<Url>> {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let target = location
        .and_then(|location| url.join(location).ok())
        .ok_or_else(|| unexpected(format!("{} redirected ({status}) without saying where", shown(url))))?;
    if status == 303 || (status < 303 && method != Method::GET) {
        let (from, to) = (shown(url), shown(&target));
        return Err(redirected(format!(
            "{from} redirected a {method} to {to} with {status}, which would lose its body"
        )));
    }
    Ok(Some(target))
}

/// Reads the whole answer, but for one that no Vault would give.
async fn answer(mut response: reqwest::Response, url: &Url) -> Result<Response<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| explain(&error.without_url(), url))? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            let error = unexpected(format!("{} sent more than {LONGEST_ANSWER} bytes", shown(url)));
            return Err(if response.status().is_client_error() { error } else { error.unanswered() });
        }
        body.extend_from_slice(&chunk);
    }
    let mut raw = Response::new(body);
    *raw.status_mut() = response.status();
    *raw.headers_mut() = std::mem::take(response.headers_mut());
    Ok(raw)
}

fn refused(from: &Url, to: &Url) -> Error {
    redirected(format!(
        "{} redirected to {}, which is neither its own address nor one on the list of nodes",
        shown(from),
        shown(to)
    ))
}

fn redirected(message: String) -> Error {
    Error::new(ErrorKind::Redirected, Party::Vault, message)
}

fn detour(home: &Address, name: &str) -> Result<Detour> {
    let (Ok(url::Host::Domain(name)), Some(real)) = (url::Host::parse(name), home.origin.host()) else {
        return Err(configuration("the TLS server name must be a DNS name"));
    };
    Ok(Detour { name, real: real.to_owned() })
}

#[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
fn select_backend(http: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    http.tls_backend_rustls()
}

#[cfg(not(any(feature = "rustls", feature = "rustls-no-provider")))]
fn select_backend(http: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    http.tls_backend_native()
}

/// reqwest panics when nobody has installed one.
#[cfg(all(feature = "rustls-no-provider", not(feature = "rustls")))]
fn require_crypto_provider() -> Result<()> {
    match rustls::crypto::CryptoProvider::get_default() {
        Some(_) => Ok(()),
        None => Err(configuration(
            "no rustls cryptography is installed: call CryptoProvider::install_default first",
        )),
    }
}

#[cfg(not(all(feature = "rustls-no-provider", not(feature = "rustls"))))]
#[expect(clippy::unnecessary_wraps, reason = "the other one fails")]
fn require_crypto_provider() -> Result<()> {
    Ok(())
}

const MOST_REDIRECTS: usize = 3;
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
