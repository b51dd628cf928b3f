#![doc = include_str!("../README.md")]

mod detect;
mod file;
mod given;
mod kubernetes;
mod lookup;
mod token_file;

pub use detect::{Environment, detect, detect_in};
pub use given::GivenToken;
pub use kubernetes::Kubernetes;
pub use token_file::TokenFile;

/// A login that [`detect`] returns; a `leasehold_renewal::Keeper` takes it as it is.
pub type Login = Box<dyn leasehold_core::Provider<Secret = leasehold_core::Token>>;
