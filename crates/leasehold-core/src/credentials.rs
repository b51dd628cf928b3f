//! A username and its password, always together.

use std::fmt;

use secrecy::SecretString;
use serde::Deserialize;

/// A username and password that exist only for this process and only for a while.
///
/// Vault changes the **username** too, so the pair is one immutable value: there is no moment with the new name and
/// the old password. Nothing here turns it into a connection string.
///
/// ```
/// use leasehold_core::Credentials;
///
/// let credentials = Credentials::new("v-kubernet-pipeline-x1", "s3cr@t:/".to_owned());
/// assert_eq!(credentials.username(), "v-kubernet-pipeline-x1");
/// assert!(!format!("{credentials:?}").contains("s3cr"));
/// ```
#[derive(Clone, Deserialize)]
pub struct Credentials {
    username: String,
    password: SecretString,
}

impl Credentials {
    /// Joins a username and its password.
    pub fn new(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { username: username.into(), password: password.into() }
    }

    /// The name to log in with. Not a secret: it appears in logs, events and the database's own tables.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password; whoever exposes it must not let it reach a string that is kept or printed.
    pub fn password(&self) -> &SecretString {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_no_password() {
        let text = format!("{:?}", Credentials::new("name", "hunter2".to_owned()));
        assert!(text.contains("name") && !text.contains("hunter2"), "{text}");
    }
}
