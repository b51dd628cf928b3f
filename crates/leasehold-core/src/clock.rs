//! The one clock that decisions read: it counts suspension and cannot be stepped.
//!
//! A lease goes on running out while a laptop sleeps or a host is suspended, so the clock must too: `CLOCK_BOOTTIME`
//! on Linux, `CLOCK_MONOTONIC` on Apple systems (which counts sleep there), the process's monotonic clock elsewhere.
//! Timers stop in suspension; [`sleep_until`] therefore looks again whenever [`Clock::jumps`] says that time has jumped.

mod system;
#[cfg(feature = "test-util")]
mod test;

use std::{fmt, ops::Add, time::Duration};

use tokio::sync::watch;

pub use system::SystemClock;
#[cfg(feature = "test-util")]
pub use test::TestClock;

/// A point in time on a [`Clock`], comparable only with moments of the same clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Later than every other moment: what has no end is usable until then.
    pub const NEVER: Self = Self(u64::MAX);

    /// Makes a moment from nanoseconds since the clock's own zero, for those who write a [`Clock`].
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's own zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `self` the moment `later` comes; zero if it does not.
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    /// The moment `by` earlier, or the clock's zero.
    #[must_use]
    pub fn earlier(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

/// Saturates at [`Moment::NEVER`]; what never ends cannot be moved.
impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("never"),
            Self(nanos) => write!(f, "{:?}", Duration::from_nanos(nanos)),
        }
    }
}

/// Where time comes from. Keepers, drivers and adapters take it from the `Current` they hold, so that a test can
/// give each of them its own.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present moment. Cheap: it is asked at every check-out of a connection.
    fn now(&self) -> Moment;

    /// A counter that moves when time has jumped in a way that timers do not notice, such as after a suspension.
    fn jumps(&self) -> watch::Receiver<u64>;

    /// A random number from 0 up to 1, which spreads requests. Time and chance come from one place, so that a simulation can
    /// give each keeper its own.
    fn draw(&self) -> f64 {
        fastrand::f64()
    }
}

/// Waits until `clock` has reached `at`, however time moves.
///
/// # Cancel safety
/// Nothing is lost when the future is dropped.
pub async fn sleep_until(clock: &dyn Clock, at: Moment) {
    if at == Moment::NEVER {
        return std::future::pending().await;
    }
    let mut jumps = clock.jumps();
    while clock.now() < at {
        tokio::select! {
            biased;
            () = nap(clock, at) => {}
            Ok(()) = jumps.changed() => {}
        }
    }
}

/// Waits as [`sleep_until`] does, but notices no jump, and a day at most: for a loop that listens to [`Clock::jumps`] itself
/// and looks at the clock after each wait. A keeper sleeps so for its whole life, and this future is a third as large.
///
/// # Cancel safety
/// Nothing is lost when the future is dropped.
pub async fn nap(clock: &dyn Clock, at: Moment) {
    if at == Moment::NEVER {
        return std::future::pending().await;
    }
    // A timer wheel has an end; asking again after a day costs nothing.
    let nap = clock.now().until(at).min(Duration::from_secs(86_400));
    #[expect(clippy::disallowed_methods, reason = "the one place that may: whoever calls it hears of jumps")]
    tokio::time::sleep(nap).await;
}

/// What comes of `work` within so much time, or `None`.
///
/// # Cancel safety
/// That of `work`, which is dropped when it takes longer.
pub async fn within<T>(clock: &dyn Clock, time: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = sleep_until(clock, clock.now() + time) => None,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let moment = Moment::from_nanos(5);
        assert_eq!(moment.earlier(Duration::from_secs(1)), Moment::from_nanos(0));
        assert_eq!(moment + Duration::MAX, Moment::NEVER);
        assert_eq!(Moment::NEVER + Duration::from_secs(1), Moment::NEVER);
        assert_eq!(Moment::NEVER.until(moment), Duration::ZERO);
        assert_eq!(moment.until(moment + Duration::from_secs(2)), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_wakes_when_the_machine_was_suspended_past_its_moment() {
        let clock = TestClock::new();
        let sleeper = sleep_until(&clock, clock.now() + Duration::from_secs(3600));
        let before = tokio::time::Instant::now();
        tokio::join!(sleeper, async {
            tokio::task::yield_now().await;
            clock.suspend(Duration::from_secs(4000));
        });
        assert_eq!(before.elapsed(), Duration::ZERO, "no timer ran");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_suspension_only_shortens_the_wait() {
        let clock = TestClock::new();
        let at = clock.now() + Duration::from_secs(100);
        let before = tokio::time::Instant::now();
        tokio::join!(sleep_until(&clock, at), async {
            tokio::task::yield_now().await;
            clock.suspend(Duration::from_secs(40));
        });
        assert_eq!(before.elapsed().as_secs(), 60);
    }
}
