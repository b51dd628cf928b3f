#![doc = include_str!("../README.md")]

mod builder;
mod keeper;
mod rejections;
mod revocation;
pub mod schedule;
mod task;

pub use builder::Builder;
pub use keeper::Keeper;
