#![doc = include_str!("../README.md")]

#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql")),
    allow(dead_code, reason = "each database uses it, and there is none")
)]
mod address;
mod builder;
mod customize;
mod database;
mod manager;
mod rider;
mod slots;

#[cfg(feature = "mysql")]
pub use builder::Mysql;
#[cfg(feature = "postgres")]
pub use builder::Postgres;
pub use builder::{Builder, Rotation};
pub use database::Database;
pub use leasehold_core::in_place::Settings;
pub use manager::{Manager, Pool};
pub use rider::{issued, set_instrumentation};
