#![doc = include_str!("../README.md")]

#[cfg(feature = "postgres")]
mod builder;
#[cfg(feature = "postgres")]
mod canary;
#[cfg(feature = "postgres")]
mod error;
#[cfg(feature = "postgres")]
mod gate;
#[cfg(feature = "postgres")]
mod hooks;
#[cfg(feature = "postgres")]
mod rotation;
#[cfg(feature = "postgres")]
mod session;
#[cfg(feature = "postgres")]
mod sweep;

#[cfg(feature = "postgres")]
pub use builder::{Postgres, Stragglers};
