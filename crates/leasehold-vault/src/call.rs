//! One request, as rustify wants it.

use leasehold_core::{Body, Result};
use rustify::{
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError,
};
use serde_json::{Map, Value};

use crate::{configuration, unexpected};

/// A request to a path of the interface, without the token. Written by hand: the derive knows no path at run time, and
/// rustify's own body builder sends nothing for `{}`.
#[derive(Clone)]
pub(crate) struct Call {
    path: String,
    login: Login,
    body: Option<Vec<u8>>,
}

impl Call {
    pub(crate) fn read(path: &str) -> Result<Self> {
        Ok(Self { path: checked(path)?, login: Login::None, body: None })
    }

    pub(crate) fn write(path: &str, body: Body) -> Result<Self> {
        Self::written(path, Login::None, &body.into_fields())
    }

    pub(crate) fn login(path: &str, body: Body) -> Result<Self> {
        let fields = body.into_fields();
        let login = if fields.contains_key("jwt") { Login::Jwt } else { Login::Secret };
        Self::written(path, login, &fields)
    }

    fn written(path: &str, login: Login, fields: &Map<String, Value>) -> Result<Self> {
        // serde_json's error would repeat nothing here, but neither would it help.
        let body = serde_json::to_vec(fields).map_err(|_| unexpected("the body cannot be written"))?;
        Ok(Self { path: checked(path)?, login, body: Some(body) })
    }

    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked { path: &self.path, login: self.login, write: self.body.is_some() }
    }
}

/// What a request asked for: all that telling the meaning of an answer needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) path: &'a str,
    pub(crate) login: Login,
    pub(crate) write: bool,
}

/// Whether a request logs in, and by which proof: a refusal means something else, and costs something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    None,
    /// With a JWT, which the server has others check. Trying again does no harm.
    Jwt,
    /// With a secret id, a password, a certificate. Each refusal may be one of the few before a lock-out.
    Secret,
}

impl Asked<'_> {
    pub(crate) fn method(&self) -> &'static str {
        if self.write { "POST" } else { "GET" }
    }

    pub(crate) fn logs_in(&self) -> bool {
        self.login != Login::None
    }

    pub(crate) fn is_lookup_self(&self) -> bool {
        self.path == LOOKUP_SELF
    }
}

impl Endpoint for Call {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        if self.body.is_some() { RequestMethod::POST } else { RequestMethod::GET }
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.clone())
    }
}

/// Rejects what would reach the server as another path: `url` drops dot segments, the server merges empty ones, and a
/// very long one fails inside rustify.
fn checked(path: &str) -> Result<String> {
    let path = path.trim_matches('/');
    if path.is_empty() || path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(configuration(format!("the path {path:?} has an empty or a dot segment")));
    }
    if path.chars().any(char::is_control) {
        return Err(configuration(format!("the path {path:?} has a control character")));
    }
    if path.len() > LONGEST_PATH {
        return Err(configuration(format!("a path of {} bytes is too long", path.len())));
    }
    Ok(path.to_owned())
}

pub(crate) const LOOKUP_SELF: &str = "auth/token/lookup-self";
const LONGEST_PATH: usize = 4096;

#[cfg(test)]
mod tests {
    use leasehold_core::ErrorKind;

    use super::*;

    #[test]
    fn paths_that_would_become_others_are_refused() {
        let long = "a".repeat(5000);
        for path in ["", "/", "a//b", "../sys", "database/creds/..", "a/./b", "a\nb", "a\0", &long] {
            let error = Call::read(path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{path}");
        }
        assert_eq!(Call::read("/database/creds/app/").unwrap().path, "database/creds/app");
    }

    #[test]
    fn an_empty_body_is_still_one() {
        let call = Call::write("a", Body::new()).unwrap();
        assert_eq!(call.body().unwrap().as_deref(), Some(b"{}".as_slice()));
        assert_eq!(call.asked().method(), "POST");
    }
}
