#![doc = include_str!("../README.md")]

mod address;
mod builder;
mod call;
mod classify;
mod client;
mod duration;
mod envelope;
mod environment;
mod failure;
mod reload;
mod resolve;
mod retry_after;
mod scrub;
mod tls;
#[cfg(feature = "test-util")]
mod transport;
#[cfg(feature = "vaultrs")]
mod vaultrs_client;
mod wire;

pub use builder::Builder;
pub use client::Client;
#[cfg(feature = "test-util")]
pub use transport::Transport;
/// The version of vaultrs whose client [`Client::vaultrs`] gives.
#[cfg(feature = "vaultrs")]
pub use vaultrs;
#[cfg(feature = "vaultrs")]
pub use vaultrs_client::Vaultrs;

use leasehold_core::{Error, ErrorKind, Party};

fn configuration(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Party::Configuration, message)
}

fn unexpected(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unexpected, Party::Vault, message)
}
