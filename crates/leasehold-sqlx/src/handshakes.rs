//! When to try a handshake: sqlx tells nobody but its caller that one of the pool's own was refused.

use std::time::Duration;

use leasehold_core::clock::Moment;

/// What is known of a pool's handshakes.
pub(crate) struct Handshakes {
    /// How long a pool that may open a connection, and has lost none, goes without a try.
    every: Duration,
    /// The connections that the pool had opened, and that were gone, when one was known to succeed.
    opened: usize,
    gone: usize,
    /// When one was known to succeed, or was tried.
    tried: Moment,
    /// How long after that to try one if a connection was lost, or if one could be opened.
    pause: Duration,
    pause_if_short: Duration,
}

/// What a pool shows.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// How many connections it has opened so far.
    pub(crate) opened: usize,
    /// How many it has, those included that it is opening.
    pub(crate) size: usize,
    /// Whether none is idle, and it may open one more.
    pub(crate) is_short: bool,
}

impl Handshakes {
    pub(crate) fn new(every: Duration, look: Look, now: Moment) -> Self {
        let (opened, gone) = (look.opened, look.gone());
        Self { every, opened, gone, tried: now, pause: GLANCE, pause_if_short: every }
    }

    /// Whether nothing tells that a handshake would succeed, and the pool has lost a connection since that was known, or
    /// could open one more.
    pub(crate) fn is_one_due(&mut self, look: Look, now: Moment) -> bool {
        if look.opened != self.opened {
            // One of the pool's own has succeeded. Where it opens them all the time, the next should soon.
            (self.opened, self.gone) = (look.opened, look.gone());
            (self.tried, self.pause, self.pause_if_short) = (now, GLANCE, GLANCE);
            return false;
        }
        let has_lost_one = look.gone() > self.gone;
        has_lost_one && self.tried + self.pause <= now
            || look.is_short && self.tried + self.pause_if_short <= now
    }

    pub(crate) fn succeeded(&mut self, look: Look, now: Moment) {
        (self.gone, self.tried) = (look.gone(), now);
        (self.pause, self.pause_if_short) = (GLANCE, self.every);
    }

    /// The keeper was told. It is tried again ever more slowly, until one succeeds.
    pub(crate) fn failed(&mut self, now: Moment) {
        let pause = (self.pause * 2).min(self.every.max(GLANCE));
        (self.tried, self.pause, self.pause_if_short) = (now, pause, pause);
    }
}

impl Look {
    fn gone(self) -> usize {
        self.opened.saturating_sub(self.size)
    }
}

/// How soon it is noticed that the pool has lost a connection.
pub(crate) const GLANCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// How many tries there are in the looks of ten seconds, each a tenth of one after the one before.
    fn tries(succeed: bool, looks: impl Fn(usize) -> Look) -> usize {
        let now = |glance: usize| Moment::from_nanos(0) + GLANCE * u32::try_from(glance).unwrap();
        let mut handshakes = Handshakes::new(Duration::from_secs(2), looks(0), now(0));
        let mut tries = 0;
        for glance in 1..=100 {
            if handshakes.is_one_due(looks(glance), now(glance)) {
                tries += 1;
                match succeed {
                    true => handshakes.succeeded(looks(glance), now(glance)),
                    false => handshakes.failed(now(glance)),
                }
            }
        }
        tries
    }

    #[test]
    fn a_pool_that_loses_nothing_is_left_alone() {
        assert_eq!(tries(true, |_| Look { opened: 4, size: 4, is_short: false }), 0);
    }

    #[test]
    fn handshakes_that_succeed_need_no_try() {
        assert_eq!(tries(true, |glance| Look { opened: glance, size: glance % 2, is_short: true }), 0);
    }

    #[test]
    fn each_lost_connection_is_worth_one_try() {
        let looks = |glance| Look { opened: 4, size: if glance < 10 { 4 } else { 3 }, is_short: false };
        assert_eq!(tries(true, looks), 1);
    }

    #[test]
    fn a_pool_that_could_open_one_is_tried_for_now_and_then() {
        assert_eq!(tries(true, |_| Look { opened: 4, size: 4, is_short: true }), 5);
    }

    #[test]
    fn a_pool_that_opened_them_all_the_time_is_tried_for_as_soon_as_it_opens_none() {
        for size in [0, 1] {
            let looks = |glance: usize| Look { opened: glance.min(10), size, is_short: true };
            let at = |glance: u32| Moment::from_nanos(0) + GLANCE * glance;
            let mut handshakes = Handshakes::new(Duration::from_secs(2), looks(0), at(0));
            let due: Vec<u32> = (1..13)
                .filter(|glance| handshakes.is_one_due(looks(usize::try_from(*glance).unwrap()), at(*glance)))
                .collect();
            assert_eq!(due, [11, 12], "of {size} in the pool");
        }
    }

    #[test]
    fn refused_ones_are_tried_ever_more_slowly() {
        let looks = |glance| Look { opened: 4, size: if glance < 10 { 4 } else { 0 }, is_short: true };
        assert!((5..=9).contains(&tries(false, looks)), "{}", tries(false, looks));
    }
}
