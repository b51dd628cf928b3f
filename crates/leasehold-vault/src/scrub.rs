//! Makes a server's words fit for an error message.

use std::fmt::Write;

use leasehold_core::{Body, ExposeSecret, Token};
use serde_json::Value;

/// What was sent in one request and must not come back in a message.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// The token and every text of the body, but for the fields that name something.
    pub(crate) fn of(token: Option<&Token>, body: Option<&Body>) -> Self {
        let mut secrets = Self::default();
        if let Some(token) = token {
            secrets.add(token.value().expose_secret());
        }
        for (field, value) in body.cloned().unwrap_or_default().into_fields() {
            if !PUBLIC_FIELDS.contains(&field.as_str()) {
                secrets.add_texts(&value);
            }
        }
        // The longest first, so that no secret is spoilt by the replacement of a part of it.
        secrets.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    fn add_texts(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add(text),
            Value::Array(values) => values.iter().for_each(|value| self.add_texts(value)),
            Value::Object(fields) => fields.values().for_each(|value| self.add_texts(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add(&mut self, secret: &str) {
        let quoted = Value::from(secret).to_string();
        let parts = secret.split('.').filter(|part| part.len() >= 16); // of a JWT, of a token
        for form in [secret, secret.trim(), quoted.trim_matches('"')].into_iter().chain(parts) {
            if !form.is_empty() {
                self.0.push(form.to_owned());
            }
        }
    }

    /// The text without the secrets, without control characters, and no longer than a message should be.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let text = self.replace(text);
        let words: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Once more, since a secret may have been written across lines.
        let words = self.replace(&words.split_whitespace().collect::<Vec<_>>().join(" "));
        cut(&hide_patterns(&words))
    }

    fn replace(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
    }
}

/// Hides what looks like a secret that we have not sent: tokens, JWTs, passwords in addresses and in settings.
fn hide_patterns(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut after_password = false;
    for word in text.split(' ') {
        if !hidden.is_empty() {
            hidden.push(' ');
        }
        let quoted = word.starts_with(['\'', '"', '`']);
        if (after_password && quoted) || looks_secret(word) {
            hidden.push_str(HIDDEN);
        } else if let Some((name, _)) = password_setting(word) {
            let _ = write!(hidden, "{name}{HIDDEN}");
        } else {
            hidden.push_str(&hide_user_info(word));
        }
        after_password = ends_with_password(word);
    }
    hidden
}

/// Whether a run of letters in the word is a token or a JWT, ours or another's.
fn looks_secret(word: &str) -> bool {
    word.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))).any(|run| {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| run.starts_with(prefix));
        (starts(&["hvs.", "hvb.", "hvr."]) && run.len() >= 12)
            || (starts(&["eyJ"]) && run.len() >= 20)
            || (starts(&["s.", "b."]) && run.len() >= 26)
    })
}

/// Splits `password=…` after the sign, wherever in the word it stands.
fn password_setting(word: &str) -> Option<(&str, &str)> {
    let lower = word.to_ascii_lowercase();
    let end = ["password=", "passwd=", "pwd=", "password:"]
        .iter()
        .find_map(|name| lower.find(name).map(|start| start + name.len()).filter(|end| *end < word.len()))?;
    Some(word.split_at(end))
}

fn ends_with_password(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    ["password", "password=", "password:"].iter().any(|name| lower.ends_with(name))
}

/// Hides the user and password of an address in the word.
fn hide_user_info(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}"),
        None => word.to_owned(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const HIDDEN: &str = "***";
const LONGEST: usize = 300;
/// Fields whose values the server's message may repeat, because they tell the reader what to correct.
const PUBLIC_FIELDS: [&str; 9] =
    ["alt_names", "common_name", "ip_sans", "lease_id", "name", "role", "ttl", "type", "uri_sans"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(token: &str) -> Secrets {
        Secrets::of(Some(&Token::new(token.to_owned())), None)
    }

    #[test]
    fn hides_what_was_sent() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwaXBlbGluZSJ9.c2lnbmF0dXJlc2lnbmF0dXJl";
        let body = Body::new().text("role", "pipeline").text("jwt", jwt).text("password", "p\"w\n1");
        let token = Token::new("s.Ajj42KrNBkNIbNdAQVLtBlv2".to_owned());
        let secrets = Secrets::of(Some(&token), Some(&body));
        let table = [
            ("no s.Ajj42KrNBkNIbNdAQVLtBlv2!", "no ***!"),
            ("role \"pipeline\" has no", "role \"pipeline\" has no"),
            (jwt, "***"),
            ("claims eyJzdWIiOiJwaXBlbGluZSJ9 differ", "claims *** differ"),
            ("it was \"p\\\"w\\n1\"", "it was \"***\""),
            ("raw p\"w\n1.", "raw ***."),
        ];
        for (said, expected) in table {
            assert_eq!(secrets.scrub(said), expected);
        }
    }

    #[test]
    fn hides_what_looks_secret_and_keeps_what_explains() {
        let table = [
            ("token hvs.CAESIJabcdefgh expired", "token *** expired"),
            ("it was (token=\"s.Ajj42KrNBkNIbNdAQVLtBlv2\")", "it was ***"),
            ("jwt=eyJhbGciOiJSUzI1NiJ9.eyJz: bad", "*** bad"),
            ("postgres://vault:hunter2@db:5432/x refused", "postgres://***@db:5432/x refused"),
            ("host=db password=hunter2 user=v", "host=db password=*** user=v"),
            ("CREATE ROLE x PASSWORD 'hunter2' VALID", "CREATE ROLE x PASSWORD *** VALID"),
            (
                "password authentication failed for user \"vroot\"",
                "password authentication failed for user \"vroot\"",
            ),
            ("1 error occurred:\n\t* permission denied\n\n", "1 error occurred: * permission denied"),
            ("dial tcp 127.0.0.1:5432: connection refused", "dial tcp 127.0.0.1:5432: connection refused"),
        ];
        for (said, expected) in table {
            assert_eq!(Secrets::default().scrub(said), expected);
        }
    }

    #[test]
    fn is_short() {
        assert_eq!(Secrets::default().scrub(&"ä".repeat(1000)).chars().count(), LONGEST + 1);
    }

    proptest! {
        #[test]
        fn nothing_sent_comes_back(
            secret in "[A-Za-z0-9_-]{4,60}", before in "\\PC{0,200}", after in "[\\x00-\\x7f]{0,200}",
        ) {
            for text in [format!("{before}{secret}{after}"), format!("{after}\n{secret}\t{before}")] {
                let scrubbed = secrets(&secret).scrub(&text);
                prop_assert!(!scrubbed.contains(&secret), "{scrubbed}");
                prop_assert!(!scrubbed.contains(char::is_control));
                prop_assert!(scrubbed.chars().count() <= LONGEST + 1);
            }
        }
    }
}
