//! The pace of attempts after a secret has died, when the server may have too many clients in the same trouble.
//!
//! If an attempt is lost without an answer, or answered with a 429, the server is alive and has more to do than it can, and
//! nobody says how many ask. So the next attempt comes at a random moment of a window that is a quarter of the time for which
//! the trouble has lasted: it grows with the fleet, and the wait after the trouble is at most a quarter of it. A lost
//! attempt may have made a user, so its window may grow to minutes. A 429 leaves nothing behind, so its window ends at ten
//! seconds; it begins where the server's `Retry-After` ends, and is at least as long as that, up to half a minute, or all who
//! were told to wait would come at once.

use std::time::Duration;

use leasehold_core::ErrorKind;

use super::{
    Carried,
    holding::Trouble,
    pace::doubled,
    schedule::{FIRST_BACKOFF, LONGEST_RETRY_AFTER, jittered},
};

/// Whether the last attempt says that the server has too much to do.
pub(super) fn is_crowded(trouble: &Trouble) -> bool {
    trouble.carried == Carried::Maybe || trouble.kind == ErrorKind::RateLimited
}

/// How long to wait after such an attempt. `calm` is the longest wait where nothing speaks of a crowd.
pub(super) fn wait(trouble: &Trouble, ttl: Duration, calm: Duration, draw: f64) -> Duration {
    let longest = match trouble.carried {
        Carried::Maybe => (ttl / 20).clamp(calm.min(SHORT_WITH_ORPHANS), slowest_with_orphans(ttl)),
        Carried::No => calm,
    };
    // The first answers come at once, when a quarter of the time is nothing yet.
    let first = doubled(FIRST_BACKOFF, trouble.count).min(SLOWEST_FIRST);
    let asked_for = trouble.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    let window = (trouble.since.until(trouble.at) / 4).max(first).min(longest);
    asked_for + jittered(window.max(asked_for.min(LONGEST_AFTER_RETRY_AFTER)), draw)
}

/// The longest wait between attempts that may each leave a user behind for a TTL. It grows with the TTL, so that fewer than 1,600
/// of them live at a time, because a PostgreSQL refuses grants at some 2,350 roles.
pub(super) fn slowest_with_orphans(ttl: Duration) -> Duration {
    (ttl / 500).clamp(SLOWEST_WITH_ORPHANS, SLOWEST_OF_ALL)
}

pub(super) const SHORT_WITH_ORPHANS: Duration = Duration::from_secs(10);
pub(super) const SLOWEST_WITH_ORPHANS: Duration = Duration::from_secs(600);
const SLOWEST_OF_ALL: Duration = Duration::from_secs(3_600);
const SLOWEST_FIRST: Duration = Duration::from_secs(4);
const LONGEST_AFTER_RETRY_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use leasehold_core::clock::Moment;

    use super::{super::holding::Failing, *};

    const CALM: Duration = Duration::from_secs(10);
    const HOUR: Duration = Duration::from_secs(3600);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Trouble that has lasted for so long.
    fn lost(count: u32, lasted: Duration) -> Trouble {
        let since = Moment::from_nanos(0);
        let kind = ErrorKind::Unreachable;
        Trouble {
            count,
            at: since + lasted,
            since,
            kind,
            retry_after: None,
            carried: Carried::Maybe,
            of: Failing::Issues,
        }
    }

    fn refused(count: u32, lasted: Duration, retry_after: Option<Duration>) -> Trouble {
        Trouble { kind: ErrorKind::RateLimited, retry_after, carried: Carried::No, ..lost(count, lasted) }
    }

    /// The latest moment of the window.
    fn latest(trouble: &Trouble) -> Duration {
        wait(trouble, HOUR, CALM, 0.0)
    }

    #[test]
    fn the_window_of_lost_attempts_is_a_quarter_of_the_trouble() {
        assert_eq!(latest(&lost(1, Duration::ZERO)), FIRST_BACKOFF, "a connection that was cut says little");
        assert_eq!(latest(&lost(1, secs(12))), secs(3));
        assert_eq!(latest(&lost(6, secs(100))), secs(25));
        assert_eq!(latest(&lost(60, secs(7200))), secs(180), "three minutes for a lease of an hour");
        assert_eq!(
            wait(&lost(60, secs(7200)), secs(6), secs(1), 0.0),
            secs(1),
            "and seconds for one of seconds"
        );
    }

    #[test]
    fn a_postgresql_bears_the_users_that_are_left_behind_within_a_ttl() {
        for days in [1, 8, 32] {
            let ttl = HOUR * 24 * days;
            let mean = wait(&lost(400, ttl), ttl, CALM, 0.5);
            assert!(ttl.div_duration_f64(mean) < 1_600.0, "{days} days: {mean:?}");
        }
    }

    #[test]
    fn a_429_is_asked_again_within_ten_seconds() {
        let windows = [1, 2, 3, 4, 5].map(|count| latest(&refused(count, secs(3), None)).as_millis());
        assert_eq!(windows, [750, 1000, 2000, 4000, 4000]);
        assert_eq!(latest(&refused(9, secs(900), None)), CALM);
    }

    #[test]
    fn nobody_comes_before_retry_after_and_not_all_at_its_end() {
        for asked_for in [1, 5, 30].map(secs) {
            let trouble = refused(1, Duration::ZERO, Some(asked_for));
            assert!(wait(&trouble, HOUR, CALM, 1.0) > asked_for);
            assert_eq!(latest(&trouble), asked_for * 2);
        }
        let for_long = refused(1, Duration::ZERO, Some(secs(9000)));
        assert_eq!(latest(&for_long), LONGEST_RETRY_AFTER + LONGEST_AFTER_RETRY_AFTER);
    }

    #[test]
    fn a_draw_only_makes_an_attempt_earlier() {
        let trouble = lost(4, secs(60));
        let waits = [0.0, 0.25, 0.5, 0.75, 1.0].map(|draw| wait(&trouble, HOUR, CALM, draw));
        assert!(waits.is_sorted_by(|before, after| before > after), "{waits:?}");
        assert_eq!(waits[4], super::super::pace::SPACING);
    }
}
