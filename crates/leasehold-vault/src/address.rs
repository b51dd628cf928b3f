//! Where the server is, and where its redirects may lead.

use leasehold_core::Result;
use url::{Host, Url};

use crate::configuration;

/// The checked address of a server: its origin, and the path in front of `/v1`.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) origin: Url,
    pub(crate) prefix: String,
}

impl Address {
    /// # Errors
    /// `Configuration` for anything but `http://` or `https://` with a host. The text is not repeated: it may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| configuration(format!("the server's address {why}"));
        let mut url = Url::parse(text.trim()).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must hold no user and no password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must hold no `?` and no `#`"));
        }
        let prefix = url.path().trim_matches('/').to_owned();
        url.set_path("/");
        Ok(Self { origin: url, prefix })
    }

    /// Scheme, host and port.
    pub(crate) fn shown(&self) -> String {
        shown(&self.origin)
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.origin.scheme() == "http"
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match self.origin.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }
}

/// Scheme, host and port of any URL: what may be shown of it.
pub(crate) fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether a request that was sent to `from` may go on to `to`, token and all.
pub(crate) fn may_follow(from: &Url, to: &Url, home: &Url, nodes: &[Url]) -> bool {
    let downgrade = from.scheme() == "https" && to.scheme() != "https";
    let ours = |node: &Url| node.origin() == to.origin();
    !downgrade && matches!(to.scheme(), "http" | "https") && (ours(home) || nodes.iter().any(ours))
}

#[cfg(test)]
mod tests {
    use leasehold_core::ErrorKind;

    use super::*;

    #[test]
    fn reads_addresses() {
        let table = [
            ("http://127.0.0.1:8200", "http://127.0.0.1:8200", ""),
            (" https://vault.example/ ", "https://vault.example", ""),
            ("https://[::1]:8200", "https://[::1]:8200", ""),
            ("https://host:443/infra/vault/", "https://host", "infra/vault"),
        ];
        for (text, origin, prefix) in table {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.shown().as_str(), address.prefix.as_str()), (origin, prefix), "{text}");
        }
    }

    #[test]
    fn a_bad_address_is_an_error_that_does_not_repeat_it() {
        for text in [
            "",
            "hunter2",
            "hunter2:8200",
            "unix:///run/hunter2.sock",
            "http://",
            "https://u:hunter2@host",
            "https://host:99999/hunter2",
            "https://host/?hunter2",
            "https://host/#hunter2",
            "data:hunter2",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_our_own_origins_are_followed() {
        let url = |text: &str| Url::parse(text).unwrap();
        let home = url("https://vault:8200");
        let nodes = [url("https://node-1:8200"), url("http://node-2:8200")];
        let table = [
            ("https://vault:8200/v1/x?y", true),
            ("https://node-1:8200/v1/x", true),
            ("https://node-1:8201/v1/x", false),
            ("https://vault/v1/x", false),
            ("https://vault.evil:8200/v1/x", false),
            ("http://vault:8200/v1/x", false),
            ("http://node-2:8200/v1/x", false), // listed, but never from https to http
            ("ftp://vault:8200/v1/x", false),
        ];
        for (to, expected) in table {
            assert_eq!(may_follow(&home, &url(to), &home, &nodes), expected, "{to}");
        }
        let plain = url("http://vault:8200");
        assert!(may_follow(&plain, &nodes[1], &plain, &nodes));
        assert!(may_follow(&plain, &nodes[0], &plain, &nodes), "from http to a listed https");
    }

    #[test]
    fn loopback_is_recognised() {
        for (text, expected) in [
            ("http://localhost:1", true),
            ("http://127.0.0.9", true),
            ("http://[::1]", true),
            ("http://a.b", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
