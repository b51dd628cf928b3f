//! A Vault whose answers are written down, and a token to ask it with.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and a test may panic")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use leasehold_core::{
    Answer, Body, Current, Error, ErrorKind, ExposeSecret, Grant, Lease, Party, Record, Result, Token, Vault,
    async_trait,
    clock::{Clock, TestClock},
    publish::{self, Channel, Published},
};
use serde_json::Value;

pub(crate) struct Scripted {
    /// The token, the path and the body of each request.
    pub(crate) asked: Mutex<Vec<String>>,
    answers: Mutex<HashMap<String, Result<Answer>>>,
}

impl Scripted {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { asked: Mutex::default(), answers: Mutex::default() })
    }

    /// Answers to this path with data from now on, without a lease.
    pub(crate) fn answers(&self, path: &str, data: Value) {
        self.answers_with(path, data, Lease::endless());
    }

    /// The same, with a lease.
    pub(crate) fn answers_with(&self, path: &str, data: Value, lease: Lease) {
        let Value::Object(data) = data else { unreachable!() };
        self.answers.lock().unwrap().insert(path.to_owned(), Ok(Answer::new(lease, data, None, Vec::new())));
    }

    pub(crate) fn fails(&self, path: &str, kind: ErrorKind) {
        let error = Error::new(kind, Party::Vault, format!("scripted {kind}"));
        self.answers.lock().unwrap().insert(path.to_owned(), Err(error));
    }

    /// The same, where the server may have carried it out.
    pub(crate) fn leaves_unanswered(&self, path: &str) {
        let error = Error::new(ErrorKind::Unreachable, Party::Vault, "scripted silence").unanswered();
        self.answers.lock().unwrap().insert(path.to_owned(), Err(error));
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn answer(&self, token: &Token, path: &str, body: &Value) -> Result<Answer> {
        self.asked.lock().unwrap().push(format!("{} {path} {body}", token.value().expose_secret()));
        let unwritten = || Err(Error::new(ErrorKind::NotFound, Party::Vault, format!("nothing at {path}")));
        self.answers.lock().unwrap().get(path).cloned().unwrap_or_else(unwritten)
    }
}

#[async_trait]
impl Vault for Scripted {
    async fn login(&self, _: &str, _: Body) -> Result<Answer> {
        unreachable!("a secret does not log in")
    }

    async fn read(&self, token: &Token, path: &str) -> Result<Answer> {
        self.answer(token, path, &Value::Null)
    }

    async fn write(&self, token: &Token, path: &str, body: Body) -> Result<Answer> {
        self.answer(token, path, &body.into_fields().into())
    }
}

/// A token, and all that is behind it.
pub(crate) struct Scene {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) vault: Arc<Scripted>,
    pub(crate) tokens: Channel<Token>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TestClock::new());
        let tokens = publish::channel("token", clock.clone());
        let mut scene = Self { clock, vault: Scripted::new(), tokens };
        scene.log_in("one");
        scene
    }

    /// Puts another token into use.
    pub(crate) fn log_in(&mut self, value: &str) {
        let lease = Lease::new("", Duration::from_secs(100), true);
        self.tokens.publisher.publish(Grant::new(Token::new(value.to_owned()), lease), self.clock.now());
    }

    pub(crate) fn token(&self) -> Current<Token> {
        self.tokens.current.clone()
    }

    pub(crate) fn record<S>(&self, grant: Grant<S>) -> Arc<Record<S>> {
        let mut channel = publish::channel("secret", self.clock.clone());
        match channel.publisher.publish(grant, self.clock.now()) {
            Published::New(record) | Published::Same(record) => record,
        }
    }
}

/// The error of what cannot be had; it tells none of these.
pub(crate) fn refusal<S>(issued: Result<Grant<S>>, secrets: &[&str]) -> Error {
    let error = issued.err().unwrap();
    for secret in secrets {
        assert!(!format!("{error} {error:?}").contains(secret), "a secret is told: {error}");
    }
    error
}
