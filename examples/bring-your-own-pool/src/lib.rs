//! A pool that Leasehold has never heard of, in [`pool`], and what makes it rotate, in [`rotation`].
//!
//! `tests/conformance.rs` has it pass the suite that our own adapters pass.

pub mod pool;
pub mod rotation;
