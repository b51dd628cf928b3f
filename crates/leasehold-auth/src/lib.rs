#![doc = include_str!("../README.md")]

mod approle;
mod detect;
mod file;
mod given;
mod jwt;
mod jwt_end;
mod kubernetes;
mod login;
mod lookup;
mod source;
mod tls_certificate;
mod token_file;
mod user_pass;

pub use approle::AppRole;
pub use detect::{Environment, detect, detect_in};
pub use given::GivenToken;
pub use jwt::Jwt;
pub use kubernetes::Kubernetes;
pub use source::Ask;
pub use tls_certificate::TlsCertificate;
pub use token_file::TokenFile;
pub use user_pass::UserPass;

/// A login that [`detect`] returns; a `leasehold_renewal::Keeper` takes it as it is.
pub type Login = Box<dyn leasehold_core::Provider<Secret = leasehold_core::Token>>;
