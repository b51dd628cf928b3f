//! The troubles of a link.

use std::{num::NonZeroU32, sync::atomic::AtomicUsize, time::Duration};

/// One of the two ways on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer = 0,
    /// From the server to the client.
    ToClient = 1,
}

/// Everything that is wrong now. A number that grows tells the connections that are open, and not those to come.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) bandwidth: Option<NonZeroU32>,
    pub(super) silent: bool,
    pub(super) garbled: bool,
    pub(super) cut: bool,
    /// How many bytes more the server may say, and how often that was set.
    pub(super) rest: Option<u64>,
    pub(super) rests: u64,
    pub(super) half_closed: [u64; 2],
    pub(super) resets: u64,
    /// Whether handshakes are held back, those that began before included, and whether new ones are.
    pub(super) holds: bool,
    pub(super) holds_new: bool,
    pub(super) handshake: Duration,
}

impl State {
    /// The state in which nothing is wrong any more.
    pub(super) fn after(other: &Self) -> Self {
        let &Self { rests, half_closed, resets, .. } = other;
        Self { rests: rests + 1, half_closed, resets, ..Self::default() }
    }

    /// How long something that is sent now is under way.
    pub(super) fn delay(&self) -> Duration {
        if self.jitter.is_zero() {
            return self.latency;
        }
        self.latency + self.jitter.mul_f64(fastrand::f64())
    }
}

/// How many connections there are.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) open: AtomicUsize,
    pub(super) delayed: AtomicUsize,
}
