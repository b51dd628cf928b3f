#![doc = include_str!("../README.md")]

mod access;
mod database;
mod keys;
mod kv;
mod leased;
mod pki;
#[cfg(feature = "rustls")]
mod resolver;
mod static_role;
mod unwrap;

pub use database::DatabaseRole;
pub use keys::{CertificateCredentials, KeyCredentials};
pub use kv::Kv;
pub use leased::Leased;
pub use pki::{Certificate, Pki};
#[cfg(feature = "rustls")]
pub use resolver::CertificateResolver;
pub use static_role::StaticRole;
pub use unwrap::unwrap;
