//! What it means that there was no answer.

use std::error::Error as _;

use leasehold_core::{Error, ErrorKind, Party};
use url::Url;

use crate::{address::shown, scrub::Secrets};

/// Tells why a request got no answer. Always `Unreachable`, even for a certificate: that may be mended on the server,
/// and then the keeper should be on its way again without anybody starting it.
pub(crate) fn explain(error: &reqwest::Error, url: &Url) -> Error {
    let causes = causes(error);
    // Its own words, without ours and without the URL; nothing was sent that could come back in them, but they may be long.
    let root = Secrets::default().scrub(causes.last().map_or("", String::as_str));
    let address = shown(url);
    let says = |words: &[&str]| {
        causes.iter().any(|cause| words.iter().any(|word| cause.to_lowercase().contains(word)))
    };
    let sent = !error.is_connect() && !error.is_builder();
    let error = unreachable(if error.is_timeout() {
        let step = if error.is_connect() { "connecting to it" } else { "waiting for its answer" };
        format!("{address} took too long: gave up {step}")
    } else if says(&[
        "invalid peer certificate",
        "certificate verify failed",
        "self-signed certificate",
        "unable to get local issuer",
    ]) {
        format!(
            "the certificate of {address} is not trusted: {root}; name its authority with VAULT_CACERT or ca_cert_file, \
             or its name with VAULT_TLS_SERVER_NAME"
        )
    } else if says(&["received fatal alert", "ssl alert"]) {
        format!(
            "{address} ended the TLS handshake: {root}; it may want another client certificate (VAULT_CLIENT_CERT)"
        )
    } else if says(&["dns error", "failed to lookup address"]) {
        format!("the name in {address} cannot be resolved: {root}")
    } else if says(&["invalidcontenttype", "corrupt message", "wrong version number"]) {
        format!("{address} does not speak TLS: {root}; is its address http://?")
    } else if error.is_connect() {
        format!("cannot connect to {address}: {root}")
    } else {
        format!(
            "the connection to {address} ended before the answer did: {root}; the request may have been carried out"
        )
    });
    if sent { error.unanswered() } else { error }
}

pub(crate) fn unreachable(message: String) -> Error {
    Error::new(ErrorKind::Unreachable, Party::Vault, message)
}

fn causes(error: &reqwest::Error) -> Vec<String> {
    let (mut causes, mut next) = (Vec::new(), error.source());
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}
