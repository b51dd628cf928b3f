#![doc = include_str!("../README.md")]

mod database;
mod static_role;
mod token;

pub use database::DatabaseRole;
pub use static_role::StaticRole;
