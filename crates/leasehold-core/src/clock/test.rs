//! A clock for tests.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{Clock, Moment, nanos};

/// A clock that follows tokio's time, paused or not, plus an offset of its own, so that parallel tests do not disturb
/// each other.
///
/// ```
/// # use std::time::Duration;
/// use leasehold_core::clock::{Clock, TestClock};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let clock = TestClock::new();
/// let before = clock.now();
/// clock.suspend(Duration::from_secs(3600)); // no timer notices
/// assert_eq!(before.until(clock.now()), Duration::from_secs(3600));
/// # }
/// ```
#[derive(Debug)]
pub struct TestClock {
    zero: Instant,
    slept: AtomicU64,
    jumps: watch::Sender<u64>,
}

impl TestClock {
    /// A clock that starts at some moment that is not zero.
    #[expect(clippy::new_without_default, reason = "it reads the runtime's time, which a default should not")]
    pub fn new() -> Self {
        Self {
            zero: Instant::now(),
            slept: AtomicU64::new(nanos(Duration::from_secs(1_000))),
            jumps: watch::channel(0).0,
        }
    }

    /// Pretends that the wall clock was stepped, or that a virtual machine was paused: this clock does not notice.
    pub fn step_wall_clock(&self) {
        self.jumps.send_modify(|count| *count += 1);
    }

    /// Pretends that the machine slept for `how_long` and has just woken up.
    pub fn suspend(&self, how_long: Duration) {
        self.slept.fetch_add(nanos(how_long), Ordering::AcqRel);
        self.jumps.send_modify(|count| *count += 1);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.slept.load(Ordering::Acquire)) + self.zero.elapsed()
    }

    fn jumps(&self) -> watch::Receiver<u64> {
        self.jumps.subscribe()
    }
}
