#![doc = include_str!("../README.md")]
// Without a database there is nothing to rotate.
#![cfg(any(feature = "postgres", feature = "mysql"))]

mod builder;
mod canary;
mod database;
mod error;
mod gate;
mod handshakes;
mod hooks;
mod rotation;
mod session;
mod sweep;

pub use builder::{Builder, Stragglers};
#[cfg(feature = "any")]
pub use database::any::Any;
#[cfg(feature = "mysql")]
pub use database::mysql::MySql;
#[cfg(feature = "postgres")]
pub use database::postgres::Postgres;
