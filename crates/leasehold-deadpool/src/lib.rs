#![doc = include_str!("../README.md")]

mod closing;
mod managed;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;

pub use leasehold_core::in_place::Settings;
pub use managed::{Connect, Connection, Manager, Pool, build};
