//! The environment variables of the official clients.

use leasehold_core::Result;

use crate::{Builder, configuration, duration};

/// Reads the settings. `BAO_X` comes before `VAULT_X`; as with OpenBao's client a `BAO_X` that is set to nothing hides
/// `VAULT_X`, and a variable that is set to nothing is not set.
pub(crate) fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Builder> {
    let variables = Variables(lookup);
    let mut builder = Builder::default();
    if let Some((_, address)) = variables.get("ADDR") {
        builder = builder.address(address);
    }
    if let Some((_, namespace)) = variables.get("NAMESPACE") {
        builder = builder.namespace(namespace);
    }
    if let Some((name, text)) = variables.get("CLIENT_TIMEOUT") {
        let timeout = duration::parse(&text).filter(|timeout| !timeout.is_zero());
        let wrong =
            || configuration(format!("{name} must be seconds or a duration such as 1m30s, above zero"));
        builder = builder.timeout(timeout.ok_or_else(wrong)?);
    }
    if let Some((_, file)) = variables.get("CACERT") {
        builder = builder.ca_cert_file(file);
    } else if let Some((_, folder)) = variables.get("CAPATH") {
        builder = builder.ca_cert_folder(folder);
    }
    match (variables.get("CLIENT_CERT"), variables.get("CLIENT_KEY")) {
        (Some((_, certificate)), Some((_, key))) => builder = builder.client_cert_files(certificate, key),
        (Some((name, _)), None) => {
            return Err(configuration(format!("{name} is set, but no CLIENT_KEY to go with it")));
        }
        (None, Some((name, _))) => {
            return Err(configuration(format!("{name} is set, but no CLIENT_CERT to go with it")));
        }
        (None, None) => {}
    }
    if let Some((_, server_name)) = variables.get("TLS_SERVER_NAME") {
        builder = builder.tls_server_name(server_name);
    }
    if let Some((name, text)) = variables.get("SKIP_VERIFY") {
        builder = builder.skip_verify(boolean(&name, &text)?);
    }
    Ok(builder)
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// The name under which the variable was found, and its value.
    fn get(&self, name: &str) -> Option<(String, String)> {
        let found = ["BAO_", "VAULT_"].iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            (self.0)(&name).map(|value| (name, value))
        });
        found.filter(|(_, value)| !value.trim().is_empty())
    }
}

/// vaultrs takes everything but `0`, `f` and `false` for a yes, which turns verification off for `""` and for `no`.
fn boolean(name: &str, text: &str) -> Result<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(configuration(format!("{name} must be true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use leasehold_core::ErrorKind;

    use super::*;
    use crate::tls::{Authorities, ClientCertificate};

    fn from(variables: &[(&str, &str)]) -> Result<Builder> {
        read(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn openbao_comes_before_vault() {
        let address = |variables: &[(&str, &str)]| from(variables).unwrap().address;
        assert_eq!(address(&[("BAO_ADDR", "b"), ("VAULT_ADDR", "v")]).as_deref(), Some("b"));
        assert_eq!(address(&[("VAULT_ADDR", "v")]).as_deref(), Some("v"));
        assert_eq!(address(&[("BAO_ADDR", ""), ("VAULT_ADDR", "v")]), None);
        assert_eq!(address(&[]), None);
    }

    #[test]
    fn everything_is_read() {
        let builder = from(&[
            ("VAULT_NAMESPACE", "team"),
            ("BAO_CLIENT_TIMEOUT", "1m30s"),
            ("VAULT_CACERT", "/ca.pem"),
            ("VAULT_CAPATH", "/ignored"),
            ("VAULT_CLIENT_CERT", "/cert"),
            ("BAO_CLIENT_KEY", "/key"),
            ("VAULT_TLS_SERVER_NAME", "vault.internal"),
            ("VAULT_SKIP_VERIFY", "false"),
        ])
        .unwrap();
        assert_eq!(builder.namespace.as_deref(), Some("team"));
        assert_eq!(builder.timeout, Some(Duration::from_secs(90)));
        assert!(matches!(builder.tls.authorities, Authorities::File(path) if path == Path::new("/ca.pem")));
        assert!(matches!(builder.tls.client, Some(ClientCertificate::Files { .. })));
        assert_eq!(builder.tls.server_name.as_deref(), Some("vault.internal"));
        assert!(!builder.tls.skip_verify);
        let folder = from(&[("BAO_CAPATH", "/cas")]).unwrap().tls.authorities;
        assert!(matches!(folder, Authorities::Folder(path) if path == Path::new("/cas")));
    }

    #[test]
    fn verification_is_skipped_only_on_a_clear_yes() {
        let skips = |text: &str| from(&[("VAULT_SKIP_VERIFY", text)]).map(|builder| builder.tls.skip_verify);
        for text in ["1", "t", "T", "true", "TRUE", " True "] {
            assert!(skips(text).unwrap(), "{text:?}");
        }
        for text in ["", " ", "0", "f", "F", "false", "FALSE"] {
            assert!(!skips(text).unwrap(), "{text:?}");
        }
        for text in ["no", "yes", "2", "off", "hunter2"] {
            let error = skips(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(
                error.to_string().contains("VAULT_SKIP_VERIFY") && !error.to_string().contains("hunter2")
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let table: [(&[(&str, &str)], &str); 5] = [
            (&[("BAO_CLIENT_TIMEOUT", "soon"), ("VAULT_CLIENT_TIMEOUT", "3")], "BAO_CLIENT_TIMEOUT"),
            (&[("VAULT_CLIENT_TIMEOUT", "0")], "VAULT_CLIENT_TIMEOUT"),
            (&[("VAULT_CLIENT_CERT", "/c")], "VAULT_CLIENT_CERT"),
            (&[("BAO_CLIENT_KEY", "/k")], "BAO_CLIENT_KEY"),
            (&[("BAO_SKIP_VERIFY", "maybe")], "BAO_SKIP_VERIFY"),
        ];
        for (variables, name) in table {
            let error = from(variables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.message().contains(name), "{error}");
        }
    }
}
