#![doc = include_str!("../README.md")]

#[cfg(feature = "diesel-async")]
pub mod diesel_async;
mod manager;
mod pool;
#[cfg(feature = "postgres")]
pub mod postgres;
mod relay;
mod slots;

pub use leasehold_core::in_place::{Connect, Settings};
pub use manager::{Connection, Manager};
pub use pool::{Pool, build};
