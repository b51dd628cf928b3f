#![doc = include_str!("../README.md")]

pub mod blocking;
mod budget;
mod builder;
#[cfg(test)]
mod canonical;
mod facts;
mod guarded;
mod keeper;
mod log;
mod machine;
mod rejections;
mod task;

pub use builder::{Builder, StartPolicy};
pub use keeper::Keeper;
