//! A Vault that remembers what it was asked.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and a test may panic")]

use std::sync::Mutex;

use leasehold_core::{
    Answer, Auth, Body, Error, ErrorKind, Lease, Party, Result, Token, TokenKind, Vault, async_trait,
};
use serde_json::{Value, json};

/// What it was asked: the path, and the fields of the body.
pub(crate) type Asked = (String, Value);

pub(crate) struct Scripted {
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// The data of the answer to `lookup-self`.
    pub(crate) lookup: Value,
    /// The answer to an unwrapping; without one the token is not valid. It is given once.
    pub(crate) wrapped: Mutex<Option<Value>>,
    /// The token in the answer to a login.
    pub(crate) token: &'static str,
    pub(crate) accessor: &'static str,
    /// The errors of the next requests, in place of answers; the last one comes first.
    pub(crate) failures: Mutex<Vec<Error>>,
    /// Whether a token was wrapped.
    pub(crate) wraps_a_token: bool,
}

impl Scripted {
    pub(crate) fn new(lookup: Value) -> Self {
        Self {
            asked: Mutex::default(),
            lookup,
            wrapped: Mutex::default(),
            token: "hvs.new",
            accessor: "acc",
            failures: Mutex::default(),
            wraps_a_token: false,
        }
    }

    pub(crate) fn with_wrapped(data: Value) -> Self {
        Self { wrapped: Mutex::new(Some(data)), ..Self::default() }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn fails(&self, error: Error) {
        self.failures.lock().unwrap().push(error);
    }

    fn note(&self, path: &str, body: Value) -> Result<()> {
        self.asked.lock().unwrap().push((path.to_owned(), body));
        self.failures.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    fn auth(&self) -> Auth {
        let lease = Lease::new("", std::time::Duration::from_secs(60), true);
        Auth::new(self.token.to_owned().into(), self.accessor.to_owned(), TokenKind::Service, lease)
    }
}

impl Default for Scripted {
    fn default() -> Self {
        Self::new(json!({"accessor": "acc-1", "ttl": 60, "renewable": true, "type": "service"}))
    }
}

#[async_trait]
impl Vault for Scripted {
    async fn login(&self, path: &str, body: Body) -> Result<Answer> {
        self.note(path, body.into_fields().into())?;
        Ok(Answer::new(Lease::endless(), serde_json::Map::new(), Some(self.auth()), Vec::new()))
    }

    async fn read(&self, _: &Token, path: &str) -> Result<Answer> {
        self.note(path, Value::Null)?;
        match &self.lookup {
            Value::Object(data) => Ok(Answer::new(Lease::endless(), data.clone(), None, Vec::new())),
            _ => Err(Error::new(ErrorKind::DeadToken, Party::Vault, "the token is dead")),
        }
    }

    async fn write(&self, _: &Token, path: &str, body: Body) -> Result<Answer> {
        self.note(path, body.into_fields().into())?;
        if path != "sys/wrapping/unwrap" {
            return Ok(Answer::empty());
        }
        match self.wrapped.lock().unwrap().take() {
            Some(Value::Object(data)) => {
                let auth = self.wraps_a_token.then(|| self.auth());
                Ok(Answer::new(Lease::endless(), data, auth, Vec::new()))
            }
            _ => Err(Error::new(ErrorKind::LoginRefused, Party::Vault, "wrapping token is not valid")),
        }
    }
}
