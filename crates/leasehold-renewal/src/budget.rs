//! How many secrets one keeper may have issued because those before were refused or ended.

use std::time::Duration;

use leasehold_core::clock::Moment;

/// A bucket that holds a few issues and is refilled slowly. Only an issue that succeeded counts: an outage must not
/// use the budget up, or the recovery would wait for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Budget {
    most: u32,
    interval: Duration,
    follows_ttl: bool,
    used: u32,
    /// When the oldest use counted in `used` is forgiven.
    refill_at: Moment,
}

impl Budget {
    pub(crate) fn new(configured: Option<(u32, Duration)>, ttl: Option<Duration>) -> Self {
        let (most, interval) = configured.unwrap_or_else(|| (IN_A_ROW, of_ttl(ttl)));
        let follows_ttl = configured.is_none();
        Self { most, interval, follows_ttl, used: 0, refill_at: Moment::NEVER }
    }

    /// Follows a TTL that somebody changed.
    pub(crate) fn adapt(&mut self, ttl: Option<Duration>) {
        if self.follows_ttl {
            self.interval = of_ttl(ttl);
        }
    }

    /// Notes that one was issued.
    pub(crate) fn spend(&mut self, now: Moment) {
        self.refill(now);
        if self.used == 0 {
            self.refill_at = now + self.interval;
        }
        self.used = self.used.saturating_add(1);
    }

    /// When the next one may be issued: a moment that only [`spend`](Self::spend) and [`adapt`](Self::adapt) move.
    pub(crate) fn affordable_at(&self) -> Moment {
        if self.used < self.most {
            return Moment::from_nanos(0);
        }
        self.refill_at + self.interval.max(SHORTEST_INTERVAL).saturating_mul(self.used - self.most)
    }

    fn refill(&mut self, now: Moment) {
        while self.used > 0 && self.refill_at <= now {
            self.used -= 1;
            self.refill_at = self.refill_at + self.interval.max(SHORTEST_INTERVAL);
        }
    }
}

fn of_ttl(ttl: Option<Duration>) -> Duration {
    ttl.map_or(LONGEST_INTERVAL, |ttl| ttl / 6).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

const IN_A_ROW: u32 = 10;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);

#[cfg(test)]
impl Budget {
    pub(crate) fn canonical(&mut self, canon: &mut crate::canonical::Canon) {
        let Self { most, interval, follows_ttl, used, refill_at } = self;
        canon.plain((*most, *interval, *follows_ttl, *used));
        if *used == 0 {
            *refill_at = Moment::NEVER;
        }
        canon.moment(refill_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_in_a_row_and_then_one_at_a_time() {
        let minute = Duration::from_secs(60);
        let mut budget = Budget::new(Some((3, minute)), None);
        let begin = Moment::from_nanos(0);
        for _ in 0..3 {
            assert!(budget.affordable_at() <= begin);
            budget.spend(begin);
        }
        assert_eq!(budget.affordable_at(), begin + minute);
        budget.spend(begin + minute);
        assert_eq!(budget.affordable_at(), begin + minute * 2);
    }

    #[test]
    fn uses_are_forgiven_one_an_interval_from_the_first_on() {
        let minute = Duration::from_secs(60);
        let mut budget = Budget::new(Some((2, minute)), None);
        let begin = Moment::from_nanos(0);
        budget.spend(begin);
        budget.spend(begin + minute / 2);
        assert_eq!(budget.affordable_at(), begin + minute);
        // Both are forgiven by now, and the next two are counted from here.
        let later = begin + minute * 2;
        budget.spend(later);
        assert!(budget.affordable_at() <= later);
        budget.spend(later);
        assert_eq!(budget.affordable_at(), later + minute);
    }

    #[test]
    fn the_interval_follows_the_ttl_unless_it_is_configured() {
        let used_up = |mut budget: Budget, ttl: Option<u64>| {
            budget.adapt(ttl.map(Duration::from_secs));
            let begin = Moment::from_nanos(0);
            (0..IN_A_ROW).for_each(|_| budget.spend(begin));
            begin.until(budget.affordable_at())
        };
        assert_eq!(used_up(Budget::new(None, None), Some(60)), Duration::from_secs(10));
        assert_eq!(used_up(Budget::new(None, None), None), LONGEST_INTERVAL);
        assert_eq!(used_up(Budget::new(None, Some(Duration::from_secs(60))), Some(0)), SHORTEST_INTERVAL);
        let minute = Duration::from_secs(60);
        assert_eq!(used_up(Budget::new(Some((IN_A_ROW, minute)), None), Some(60)), minute);
    }

    #[test]
    fn honest_use_is_never_held_back() {
        // A lease that cannot be renewed is replaced at half of its life at the earliest.
        for ttl in [1, 6, 3600, 2_592_000].map(Duration::from_secs) {
            let mut budget = Budget::new(None, Some(ttl));
            let mut now = Moment::from_nanos(0);
            for _ in 0..1000 {
                assert!(budget.affordable_at() <= now, "{ttl:?}");
                budget.spend(now);
                now = now + ttl / 2;
            }
        }
    }
}
