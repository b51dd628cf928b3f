//! The rotation that adapters share, on a paused clock and with a scripted pool.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests")]

mod adopt;
mod ask;
mod cancelled;
mod connect;
mod no_room;
mod pool;
mod retire;
mod saturated;
mod server;
mod stage;
