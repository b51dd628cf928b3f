#![doc = include_str!("../README.md")]

mod closing;
#[cfg(feature = "diesel-async")]
pub mod diesel_async;
mod managed;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "diesel-async", feature = "postgres"))]
mod refusals;

pub use leasehold_core::in_place::{Connect, Settings, Tagged as Connection};
pub use managed::{Manager, Pool, build};
