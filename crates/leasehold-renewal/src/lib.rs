#![doc = include_str!("../README.md")]

pub mod blocking;
mod budget;
mod builder;
mod guarded;
mod keeper;
mod rejections;
mod revocation;
pub mod schedule;
mod start;
mod task;

pub use builder::{Builder, StartPolicy};
pub use keeper::Keeper;
