#![doc = include_str!("../README.md")]

#[cfg(feature = "postgres")]
mod gate;
#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "postgres")]
pub use postgres::{Postgres, Stragglers};
