//! The client.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Response};
use leasehold_core::{
    Answer, Body, Error, ErrorKind, ExposeSecret, Party, Result, Token, Vault, async_trait,
};
use rustify::endpoint::Endpoint;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};
use vaultrs::api::EndpointMiddleware;

use crate::{
    Builder,
    call::{Asked, Call, LOOKUP_SELF},
    classify::{Refusal, classify},
    configuration, envelope,
    failure::unreachable,
    reload::Reloading,
    retry_after,
    scrub::Secrets,
    unexpected,
    wire::Wire,
};

/// A client for Vault's and OpenBao's HTTP interface. It holds no token, so one is shared by everything; a clone is the
/// same client.
///
/// Each request is one attempt with one deadline. A 403 costs one more, `lookup-self`, to tell a dead token from a
/// policy that forbids, so the policy must allow it, as `default` does. A 403 for a token minted a moment ago, which a
/// standby may not know yet, is reported as it is: whoever minted it tries again shortly.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    wire: Reloading,
    version: String,
    namespace: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) skip_verify: bool,
    warnings_said: Mutex<Vec<String>>,
}

impl Client {
    /// A client with the settings of the environment: `BAO_ADDR`, `_NAMESPACE`, `_CLIENT_TIMEOUT`, `_CACERT`,
    /// `_CAPATH`, `_CLIENT_CERT`, `_CLIENT_KEY`, `_TLS_SERVER_NAME` and `_SKIP_VERIFY`, or the same with `VAULT_`.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming the variable, the file or the setting.
    ///
    /// ```
    /// use leasehold_vault::Client;
    ///
    /// let client = Client::from_env()?;
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    pub fn from_env() -> Result<Self> {
        Builder::from_env()?.build()
    }

    /// Settings to choose, none of them from the environment.
    ///
    /// ```
    /// use leasehold_vault::Client;
    ///
    /// let client = Client::builder().address("http://127.0.0.1:8200").build()?;
    /// # Ok::<(), leasehold_core::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(settings: &Builder) -> Result<Self> {
        let wire = Reloading::new(settings)?;
        let namespace = settings.namespace.as_deref().map(|namespace| namespace.trim().trim_matches('/'));
        let namespace = namespace.filter(|namespace| !namespace.is_empty()).map(str::to_owned);
        if namespace.as_deref().is_some_and(|namespace| !fits_a_header(namespace)) {
            return Err(configuration("the namespace holds a character that no header can carry"));
        }
        // The middleware writes this in front of the path, so a prefix of the address belongs here.
        let version = format!("{}/v1", wire.wire().home.prefix).trim_matches('/').to_owned();
        let (timeout, skip_verify) = (settings.checked_timeout()?, settings.tls.skip_verify);
        Ok(Self(Arc::new(Inner {
            wire,
            version,
            namespace,
            timeout,
            skip_verify,
            warnings_said: Mutex::default(),
        })))
    }

    pub(crate) fn wire(&self) -> Arc<Wire> {
        self.0.wire.wire()
    }

    /// Sends a request and reads its answer; after a 403 asks what became of the token.
    async fn ask(&self, token: Option<&Token>, call: Call, secrets: &Secrets) -> Result<Answer> {
        let outcome = self.attempt(token, call.clone(), secrets).await;
        let (Some(token), Err(denied)) = (token, &outcome) else { return outcome };
        // A token's last use is not spent on a question: with it the token would end, and every lease under it.
        if denied.kind() != ErrorKind::Denied || call.asked().is_lookup_self() || token.is_used_up() {
            return outcome;
        }
        match self.attempt(Some(token), Call::read(LOOKUP_SELF)?, secrets).await {
            Ok(_) => outcome,
            Err(error) if error.kind() == ErrorKind::DeadToken => {
                let Asked { path, .. } = call.asked();
                let message = format!(
                    "the token is no longer valid, or may not look itself up (`read` on auth/token/lookup-self): that and {path} were both answered 403"
                );
                Err(Error::new(ErrorKind::DeadToken, Party::Vault, message))
            }
            // It says nothing of the token, so only the refusal is known.
            Err(error) => {
                let wait = denied.retry_after().max(error.retry_after());
                let message = format!(
                    "{}, unless the token is no longer valid, which could not be asked: {}",
                    denied.message(),
                    error.message()
                );
                Err(Error::new(ErrorKind::Denied, Party::Vault, message).with_retry_after(wait))
            }
        }
    }

    async fn attempt(&self, token: Option<&Token>, call: Call, secrets: &Secrets) -> Result<Answer> {
        let (asked, begun) = (call.asked(), Instant::now());
        let (path, method) = (asked.path, asked.method());
        let outcome = self.exchange(token, &call).await;
        let elapsed = begun.elapsed();
        match &outcome {
            Ok(response) => debug!(method, path, status = response.status().as_u16(), ?elapsed, "answered"),
            Err(error) => debug!(method, path, kind = error.kind().as_str(), ?elapsed, "not answered"),
        }
        let response = outcome?;
        if response.status().is_success() {
            let answer = envelope::read(response.body(), secrets).map_err(|error| at(path, &error))?;
            self.pass_on(answer.warnings(), path);
            return Ok(answer);
        }
        let wait = retry_after::read(response.headers(), SystemTime::now());
        let refusal = Refusal::new(response.status().as_u16(), response.body(), wait, secrets);
        Err(classify(&asked, &refusal))
    }

    /// A warning is for whoever configured the server, who has to read it once.
    fn pass_on(&self, warnings: &[String], path: &str) {
        for warning in warnings {
            let mut said = self.0.warnings_said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() < MOST_WARNINGS && !said.contains(warning) {
                said.push(warning.clone());
                info!(path, %warning, "the server warns");
            } else {
                debug!(path, %warning, "the server warns");
            }
        }
    }

    async fn exchange(&self, token: Option<&Token>, call: &Call) -> Result<Response<Vec<u8>>> {
        let middleware = self.middleware(token)?;
        let endpoint = call.clone().with_middleware(&middleware);
        let Asked { path, .. } = call.asked();
        if let Some(uses) = token.and_then(Token::uses) {
            uses.take_one();
        }
        // Over all hops of a redirect, which reqwest's own deadline is not.
        let wire = self.wire();
        let Ok(outcome) = timeout(self.0.timeout, endpoint.exec(&*wire)).await else {
            let (address, within) = (wire.home.shown(), self.0.timeout);
            return Err(unreachable(format!(
                "no answer from {address} to {path} within {within:?}; the request may have been carried out"
            ))
            .unanswered());
        };
        let mut response = outcome.map_err(|_| unexpected("the request cannot be built"))?.response;
        match response.extensions_mut().remove::<Error>() {
            Some(error) => Err(error),
            None => Ok(response),
        }
    }

    /// What writes version, token and namespace into a request. It panics on what no header can carry.
    pub(crate) fn middleware(&self, token: Option<&Token>) -> Result<EndpointMiddleware> {
        let token = token.map(|token| token.value().expose_secret()).unwrap_or_default();
        if !fits_a_header(token) {
            return Err(configuration(
                "the token holds a character that no header can carry, such as a line end: trim it",
            ));
        }
        Ok(EndpointMiddleware {
            token: token.to_owned(),
            version: self.0.version.clone(),
            wrap: None,
            namespace: self.0.namespace.clone(),
        })
    }
}

#[async_trait]
impl Vault for Client {
    async fn login(&self, path: &str, body: Body) -> Result<Answer> {
        let secrets = Secrets::of(None, Some(&body));
        let answer = self.ask(None, Call::login(path, body)?, &secrets).await?;
        match answer.auth() {
            Some(_) => Ok(answer),
            None => Err(unexpected(format!("the answer to the login at {path} holds no token")).unanswered()),
        }
    }

    async fn read(&self, token: &Token, path: &str) -> Result<Answer> {
        self.ask(Some(token), Call::read(path)?, &Secrets::of(Some(token), None)).await
    }

    async fn write(&self, token: &Token, path: &str, body: Body) -> Result<Answer> {
        let secrets = Secrets::of(Some(token), Some(&body));
        self.ask(Some(token), Call::write(path, body)?, &secrets).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.wire().home.shown())
            .field("nodes", &self.wire().nodes().collect::<Vec<_>>())
            .field("namespace", &self.0.namespace)
            .field("timeout", &self.0.timeout)
            .field("skip_verify", &self.0.skip_verify)
            .finish_non_exhaustive()
    }
}

/// Names the path that was asked.
fn at(path: &str, error: &Error) -> Error {
    let located = Error::new(error.kind(), error.party(), format!("{path}: {}", error.message()));
    if error.may_have_been_carried_out() { located.unanswered() } else { located }
}

/// So many different ones are told at `info`.
const MOST_WARNINGS: usize = 32;

/// Stricter than a header need be: no token and no namespace has a space or a letter beyond ASCII at its ends or within.
fn fits_a_header(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic()) && HeaderValue::from_str(text).is_ok()
}
