//! A configuration with secret fields, kept in the kv engine.

use leasehold_core::{Current, Issued, SecretString};
use serde::Deserialize;

/// What is stored at `secret/pipeline/mail`. A field that is secret is no `String`: no `Debug` shows it.
#[derive(Debug, Deserialize)]
pub struct Mail {
    /// The relay to send through.
    pub host: String,
    /// Its port.
    #[serde(default = "submission")]
    pub port: u16,
    /// What to log in there with.
    pub password: SecretString,
}

fn submission() -> u16 {
    587
}

/// Calls `apply` with the configuration there is, and with each that is written later, until the keeper is shut down.
/// What cannot be read is none of `apply`'s business: the keeper's events and its health tell of it, and the last good
/// configuration stays.
pub async fn follow(mut mail: Current<Mail>, mut apply: impl FnMut(&Issued<Mail>)) {
    let mut latest = mail.get();
    while let Ok(issued) = latest {
        apply(&issued);
        latest = mail.changed().await;
    }
}
