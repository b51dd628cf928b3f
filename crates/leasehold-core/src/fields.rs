//! What an answer says.

use std::{any::type_name, fmt, time::Duration};

use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Party, Result};

/// Named values of an answer, any of which may be secret. Its `Debug` tells names only.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Takes the values as they were read.
    pub fn new(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A text.
    ///
    /// # Errors
    /// [`Unexpected`](ErrorKind::Unexpected) if the field is missing or no text; the error names the field, never its value.
    pub fn text(&self, field: &str) -> Result<&str> {
        match self.0.get(field) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(unexpected(format!("the answer's field `{field}` is no text"))),
            None => Err(unexpected(format!("the answer has no field `{field}`"))),
        }
    }

    /// A secret text.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn secret(&self, field: &str) -> Result<SecretString> {
        self.text(field).map(|text| text.to_owned().into())
    }

    /// A number of seconds.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn seconds(&self, field: &str) -> Result<Duration> {
        self.number(field).map(Duration::from_secs)
    }

    /// A number.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn number(&self, field: &str) -> Result<u64> {
        let number = self.0.get(field).and_then(Value::as_u64);
        number.ok_or_else(|| unexpected(format!("the answer's field `{field}` is no whole number")))
    }

    /// A yes or no; no if it is missing.
    pub fn flag(&self, field: &str) -> bool {
        self.0.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Fields in a field.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn fields(&self, field: &str) -> Result<Self> {
        match self.0.get(field) {
            Some(Value::Object(fields)) => Ok(Self(fields.clone())),
            Some(_) => Err(unexpected(format!("the answer's field `{field}` has no fields"))),
            None => Err(unexpected(format!("the answer has no field `{field}`"))),
        }
    }

    /// Reads all of it as a type of yours, whose secrets may be [`SecretString`]s.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it does not fit. The error says which field and what was expected,
    /// never what is there. (serde forgets the path within what is `flatten`ed or `untagged`: then it is "all of it".)
    ///
    /// ```
    /// use leasehold_core::{Fields, SecretString};
    /// use serde_json::json;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Mail { host: String, port: u16, password: SecretString }
    ///
    /// let stored = json!({ "host": "mail.example", "port": "hunter2", "password": "hunter2" });
    /// let error = Fields::new(stored.as_object().unwrap().clone()).decode::<Mail>().err().unwrap();
    /// assert!(error.message().contains("`port` is not u16"));
    /// assert!(!error.message().contains("hunter2"));
    /// ```
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_path_to_error::deserialize(&self.0).map_err(|error| {
            let problem = self.problem(&error.path().to_string(), &error.inner().to_string());
            let message = format!("it is not what `{}` wants: {problem}", type_name::<T>());
            Error::new(ErrorKind::Configuration, Party::Configuration, message)
        })
    }

    /// What is wrong, from serde's words, which quote values: only what comes from the type is taken from them.
    fn problem(&self, path: &str, said: &str) -> String {
        let (inside, whole) = match path {
            "." | "?" => (String::new(), "all of it".to_owned()),
            path => (format!(" in `{path}`"), format!("`{path}`")),
        };
        let quoted = |words: &str| said.strip_prefix(words)?.strip_suffix('`').map(str::to_owned);
        if let Some(field) = quoted("missing field `") {
            return format!("there is no field `{field}`{inside}");
        }
        let about_the_value = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `"];
        let expected = said.rsplit_once(", expected ").map(|(_, expected)| expected);
        match expected.filter(|expected| !self.holds(expected)) {
            Some(expected) if about_the_value.iter().any(|words| said.starts_with(words)) => {
                format!("{whole} is not {expected}")
            }
            Some(_) if said.starts_with("unknown field `") => format!("{whole} is a field too many"),
            _ => format!("{whole} is refused"),
        }
    }

    /// Whether a text repeats one of the values, but for what is a part of any word.
    fn holds(&self, text: &str) -> bool {
        fn repeats(value: &Value, text: &str) -> bool {
            match value {
                Value::String(secret) => secret.len() >= 4 && text.contains(secret.as_str()),
                Value::Array(values) => values.iter().any(|value| repeats(value, text)),
                Value::Object(fields) => fields.values().any(|value| repeats(value, text)),
                Value::Null | Value::Bool(_) | Value::Number(_) => false,
            }
        }
        self.0.values().any(|value| repeats(value, text))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

fn unexpected(message: String) -> Error {
    Error::new(ErrorKind::Unexpected, Party::Vault, message)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use secrecy::ExposeSecret;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(fields) = value else { unreachable!() };
        Fields::new(fields)
    }

    #[test]
    fn a_wrong_field_is_named_and_its_value_is_not() {
        let fields =
            fields(json!({"username": "name", "password": "hunter2", "ttl": 3, "inner": {"x": "y"}}));
        let error = fields.seconds("password").unwrap_err().to_string();
        assert!(error.contains("`password`") && !error.contains("hunter2"), "{error}");
        assert!(fields.text("missing").unwrap_err().to_string().contains("`missing`"));
        assert!(fields.text("ttl").is_err());
        assert_eq!(fields.seconds("ttl").unwrap(), Duration::from_secs(3));
        assert_eq!(fields.fields("inner").unwrap().text("x").unwrap(), "y");
        assert!(fields.fields("password").unwrap_err().to_string().contains("`password`"));
        let text = format!("{fields:?}");
        assert!(text.contains("password") && !text.contains("hunter2"), "{text}");
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only what cannot be read is looked at")]
    struct Settings {
        host: String,
        port: u16,
        password: SecretString,
        #[serde(default)]
        limits: HashMap<String, u8>,
        #[serde(default)]
        mode: Mode,
        pair: Option<(String, String)>,
        #[serde(default)]
        nodes: Vec<Node>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Fast,
        Safe,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only what cannot be read is looked at")]
    struct Node {
        name: String,
        #[serde(default, deserialize_with = "picky")]
        weight: u8,
    }

    fn picky<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
        let text = String::deserialize(from)?;
        Err(serde::de::Error::custom(format!("invalid value: no, expected better than {text}")))
    }

    #[test]
    fn what_does_not_fit_is_named_and_never_quoted() {
        let good = json!({ "host": "h", "port": 1, "password": "hunter2" });
        let settings: Settings = fields(good.clone()).decode().unwrap();
        assert_eq!(settings.password.expose_secret(), "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
        for (path, wrong, problem) in [
            ("/host", Value::Null, "there is no field `host`"),
            ("/port", json!("hunter2"), "`port` is not u16"),
            ("/port", json!(70_000), "`port` is not u16"),
            ("/password", json!(["hunter2"]), "`password` is not a string"),
            ("/limits", json!({ "cpu": "hunter2, expected nothing" }), "`limits.cpu` is not u8"),
            ("/limits", json!("hunter2"), "`limits` is not a map"),
            ("/mode", json!("hunter2"), "`mode` is not `fast` or `safe`"),
            ("/pair", json!(["hunter2"]), "`pair` is not a tuple of size 2"),
            ("/nodes", json!([{ "name": "a" }, {}]), "there is no field `name` in `nodes[1]`"),
            ("/nodes", json!([{ "name": "a", "x": "hunter2" }]), "`nodes[0].x` is a field too many"),
            ("/nodes", json!([{ "name": "a", "weight": "hunter2" }]), "`nodes[0].weight` is refused"),
        ] {
            let mut data = good.clone();
            let object = data.as_object_mut().unwrap();
            match wrong {
                Value::Null => drop(object.remove(&path[1..])),
                wrong => drop(object.insert(path[1..].to_owned(), wrong)),
            }
            let error = fields(data).decode::<Settings>().unwrap_err();
            let text = format!("{error} {error:?}");
            assert_eq!(error.kind(), ErrorKind::Configuration, "{text}");
            assert!(text.contains(problem) && !text.contains("hunter2"), "{path}: {text}");
        }
    }
}
