#![doc = include_str!("../README.md")]

pub mod clock;
mod credentials;
mod current;
mod driver;
mod error;
mod event;
mod fields;
mod health;
pub mod in_place;
mod issued;
mod lease;
#[cfg(feature = "metrics")]
mod metrics;
mod provider;
pub mod publish;
mod refusal;
mod rotate;
mod token;
mod uses;
mod vault;

pub use credentials::Credentials;
pub use current::Current;
pub use driver::drive;
pub use error::{Error, ErrorKind, Party};
pub use event::{Event, EventKind};
pub use fields::Fields;
pub use health::{Health, Status};
pub use issued::{Generation, Issued, Record};
pub use lease::{Grant, Lease, Renewed, Revoked};
pub use provider::Provider;
pub use rotate::{Retired, Rotate};
pub use token::{Token, TokenKind};
pub use uses::Uses;
pub use vault::{Answer, Auth, Body, Vault};

// So that an implementor of a trait here needs no second version of them.
pub use async_trait::async_trait;
pub use secrecy::{ExposeSecret, SecretString};

/// What every fallible function of Leasehold returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
