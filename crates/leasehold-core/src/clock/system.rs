//! The machine's clock, and the one ticker of the process that notices jumps.

use std::{
    sync::OnceLock,
    thread,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::{Clock, Moment};

/// The machine's own clock.
///
/// ```
/// use leasehold_core::clock::{Clock, SystemClock};
///
/// let before = SystemClock.now();
/// assert!(SystemClock.now() >= before);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        now()
    }

    fn jumps(&self) -> watch::Receiver<u64> {
        static TICKER: OnceLock<watch::Sender<u64>> = OnceLock::new();
        TICKER.get_or_init(start_ticker).subscribe()
    }
}

#[cfg(unix)]
fn now() -> Moment {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const COUNTS_SUSPENSION: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const COUNTS_SUSPENSION: ClockId = ClockId::Monotonic;

    let time = clock_gettime(COUNTS_SUSPENSION);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    Moment::from_nanos(secs.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0)))
}

#[cfg(not(unix))]
fn now() -> Moment {
    #[expect(
        clippy::disallowed_types,
        reason = "the best there is on systems without a clock for it in rustix"
    )]
    static ZERO: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    Moment::from_nanos(0) + ZERO.elapsed()
}

/// A thread, because a task would end with the runtime that happened to start it. It wakes once a second for the
/// whole process, whatever the number of keepers.
fn start_ticker() -> watch::Sender<u64> {
    let (jumps, _) = watch::channel(0_u64);
    let ticker = jumps.clone();
    let spawned = thread::Builder::new().name("leasehold-ticker".into()).spawn(move || {
        let mut last = Reading::take();
        loop {
            thread::sleep(TICK);
            let reading = Reading::take();
            if reading.jumped_since(&last) {
                ticker.send_modify(|count| *count += 1);
            }
            last = reading;
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for the ticker; a suspension is noticed at the next timer only");
    }
    jumps
}

struct Reading {
    moment: Moment,
    wall: Option<Duration>,
}

impl Reading {
    fn take() -> Self {
        Self { moment: now(), wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok() }
    }

    /// Either more time went by than was slept, or the wall clock moved differently (a paused virtual machine moves
    /// only the wall clock). Both merely make everyone look again.
    fn jumped_since(&self, last: &Self) -> bool {
        let passed = last.moment.until(self.moment);
        let wall = match (self.wall, last.wall) {
            (Some(now), Some(before)) => now.abs_diff(before),
            _ => passed,
        };
        passed > TICK + TOLERANCE || wall.abs_diff(passed) > TOLERANCE
    }
}

const TICK: Duration = Duration::from_secs(1);
const TOLERANCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(moment: u64, wall: u64) -> Reading {
        let moment = Moment::from_nanos(0) + Duration::from_millis(moment);
        Reading { moment, wall: Some(Duration::from_millis(wall)) }
    }

    #[test]
    fn only_a_jump_is_a_jump() {
        let last = reading(10_000, 500_000);
        assert!(!reading(11_000, 501_000).jumped_since(&last), "a tick");
        assert!(!reading(11_900, 501_900).jumped_since(&last), "a late tick");
        assert!(reading(3_611_000, 4_101_000).jumped_since(&last), "an hour of sleep");
        assert!(reading(11_000, 4_101_000).jumped_since(&last), "a paused machine, or a stepped wall clock");
        assert!(reading(11_000, 400_000).jumped_since(&last), "a wall clock stepped back");
    }
}
