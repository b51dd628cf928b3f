//! Where the database is, and how credentials are put into a URL at the last moment.

use std::{fmt, time::Duration};

use leasehold_core::{Credentials, Error, ErrorKind, ExposeSecret, Party, Result, SecretString};

/// A URL without credentials.
#[allow(unnameable_types, reason = "it is in a trait that seals another")]
pub struct Address {
    url: String,
    place: Place,
}

impl fmt::Debug for Address {
    /// A parameter such as libpq's `sslpassword` may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

/// Where in the URL credentials go.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Parameters of their own, of which libpq takes the last.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "one variant for each database"))]
    Parameters,
    /// Before the host, at this offset.
    #[cfg_attr(not(feature = "mysql"), allow(dead_code, reason = "one variant for each database"))]
    Authority(usize),
}

impl Address {
    /// Checks a URL whose scheme is one of these, which names the database and no user.
    pub(crate) fn parse(url: &str, schemes: &[&str], place: impl FnOnce(usize) -> Place) -> Result<Self> {
        let known = |scheme: &&str| url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
        let rest = schemes.iter().find_map(known).ok_or_else(|| {
            configuration(format!("the database URL does not begin with {}", schemes.join(":// or ") + "://"))
        })?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let keys: Vec<&str> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
        if authority.contains('@') || keys.iter().any(|key| matches!(*key, "user" | "password")) {
            let why = "the database URL holds credentials, which would never be used: they come from Vault. \
                       Remove them from it, and change that password, which was readable where the URL was";
            return Err(configuration(why));
        }
        if url.contains('#') {
            return Err(configuration("the database URL holds a `#`: write %23"));
        }
        if path.trim_start_matches('/').is_empty() && !keys.contains(&"dbname") {
            let why =
                "the database URL names no database, and its default is one that is named after the user";
            return Err(configuration(why));
        }
        Ok(Self { url: url.to_owned(), place: place(url.len() - rest.len()) })
    }

    /// The URL to log in with. It is erased when it is dropped.
    pub(crate) fn with(&self, credentials: &Credentials, handshake: Duration) -> Result<SecretString> {
        let (user, password) = (credentials.username(), credentials.password().expose_secret());
        if user.contains('\0') || password.contains('\0') {
            // What the client libraries say about it would hold the rest of it.
            return Err(configuration("the credentials hold a NUL, which no client library can send"));
        }
        let (user, password) = (encoded(user), encoded(password));
        let url = match self.place {
            Place::Parameters => {
                let separator = if self.url.contains('?') { '&' } else { '?' };
                let mut url = format!("{}{separator}user={user}&password={password}", self.url);
                if !self.url.contains("connect_timeout=") {
                    // libpq takes whole seconds, and no fewer than two.
                    url += &format!("&connect_timeout={}", handshake.as_secs().max(2));
                }
                url
            }
            Place::Authority(at) => {
                let (scheme, rest) = self.url.split_at(at);
                format!("{scheme}{user}:{password}@{rest}")
            }
        };
        Ok(url.into())
    }
}

/// Takes a password out of what a client library says.
pub(crate) fn without_secrets(message: &str, credentials: &Credentials) -> String {
    let password = credentials.password().expose_secret();
    let clean = message.trim().replace('\n', "; ");
    if password.is_empty() {
        return clean;
    }
    clean.replace(password, "…").replace(&encoded(password), "…")
}

/// Everything that could mean something in a URL, escaped.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

pub(crate) fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Address> {
        Address::parse(url, &["postgres", "postgresql"], |_| Place::Parameters)
    }

    #[test]
    fn a_url_names_a_database_and_no_user() {
        for good in [
            "postgres://db/app",
            "postgresql://a:1,b:2/app?target_session_attrs=read-write",
            "postgres:///app?host=/run/postgresql",
            "postgres://db?dbname=app",
        ] {
            assert!(parsed(good).is_ok(), "{good}");
        }
        for bad in [
            "mysql://db/app",
            "db/app",
            "postgres://db",
            "postgres://db/",
            "postgres://me:hunter2@db/app",
            "postgres://db/app?password=hunter2",
            "postgres://db/app#hunter2",
        ] {
            let error = parsed(bad).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{bad}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn credentials_are_escaped_and_go_where_the_library_looks() {
        let credentials = Credentials::new("v-a@b", "@:/%#?'\" \\&+é".to_owned());
        let escaped = "%40%3A%2F%25%23%3F%27%22%20%5C%26%2B%C3%A9";
        let seconds = Duration::from_secs;
        let url = parsed("postgres://db/app").unwrap().with(&credentials, seconds(5)).unwrap();
        assert_eq!(
            url.expose_secret(),
            format!("postgres://db/app?user=v-a%40b&password={escaped}&connect_timeout=5")
        );
        let url = parsed("postgres://db/app?connect_timeout=9").unwrap();
        let url = url.with(&credentials, seconds(5)).unwrap();
        assert_eq!(
            url.expose_secret(),
            format!("postgres://db/app?connect_timeout=9&user=v-a%40b&password={escaped}")
        );
        let mysql = Address::parse("mysql://db:3306/app?ssl_mode=required", &["mysql"], Place::Authority);
        let url = mysql.unwrap().with(&credentials, seconds(5)).unwrap();
        assert_eq!(url.expose_secret(), format!("mysql://v-a%40b:{escaped}@db:3306/app?ssl_mode=required"));
    }

    #[test]
    fn a_nul_is_refused_before_a_library_can_repeat_it() {
        let credentials = Credentials::new("name", "hun\0ter2".to_owned());
        let address = parsed("postgres://db/app").unwrap();
        let error = address.with(&credentials, Duration::ZERO).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("ter2"), "{error}");
    }

    #[test]
    fn what_a_library_says_is_told_without_the_password() {
        let credentials = Credentials::new("name", "hunter/2".to_owned());
        let told = without_secrets("no hunter/2,\nnor hunter%2F2\n", &credentials);
        assert_eq!(told, "no …,; nor …");
    }
}
