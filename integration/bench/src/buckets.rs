//! Counting what happens per second, and how evenly.

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

/// How often something happened in each second.
#[derive(Debug)]
pub(crate) struct PerSecond(Vec<AtomicU32>);

/// How unevenly something happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The mean, per second.
    pub(crate) mean: f64,
    /// The mean of the fullest bucket, per second.
    pub(crate) peak: f64,
    /// The second at which the fullest bucket begins.
    pub(crate) peak_at: usize,
}

impl Spread {
    /// The fullest bucket over the mean; 1 is perfectly even. Not a number if nothing happened.
    pub(crate) fn ratio(&self) -> f64 {
        self.peak / self.mean
    }
}

impl PerSecond {
    pub(crate) fn new(seconds: usize) -> Self {
        Self(std::iter::repeat_with(AtomicU32::default).take(seconds).collect())
    }

    /// Counts one. What happens after the last second is dropped.
    pub(crate) fn count(&self, second: usize) {
        if let Some(bucket) = self.0.get(second) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds what others counted.
    pub(crate) fn add(&self, other: &Self) {
        for (bucket, more) in self.0.iter().zip(&other.0) {
            bucket.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// How many there were in `seconds`.
    pub(crate) fn total(&self, seconds: Range<usize>) -> u64 {
        self.within(seconds).iter().map(|bucket| u64::from(bucket.load(Ordering::Relaxed))).sum()
    }

    /// The spread over `seconds` in buckets of `width` seconds. A last bucket that is not whole is left out, of the mean
    /// too: it would look emptier than it is.
    pub(crate) fn spread(&self, seconds: Range<usize>, width: usize) -> Spread {
        let width = width.max(1);
        let sums: Vec<u64> = self
            .within(seconds.clone())
            .chunks_exact(width)
            .map(|chunk| chunk.iter().map(|second| u64::from(second.load(Ordering::Relaxed))).sum())
            .collect();
        let per_second = |events: u64, seconds: usize| events as f64 / seconds as f64;
        let (index, peak) = sums.iter().copied().enumerate().max_by_key(|(_, sum)| *sum).unwrap_or_default();
        Spread {
            mean: per_second(sums.iter().sum(), sums.len() * width),
            peak: per_second(peak, width),
            peak_at: seconds.start + index * width,
        }
    }

    fn within(&self, seconds: Range<usize>) -> &[AtomicU32] {
        let end = seconds.end.min(self.0.len());
        &self.0[seconds.start.min(end)..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: &[usize]) -> PerSecond {
        let seconds = PerSecond::new(counts.len());
        for (second, count) in counts.iter().enumerate() {
            (0..*count).for_each(|_| seconds.count(second));
        }
        seconds
    }

    #[test]
    fn what_is_even_has_a_ratio_of_one() {
        let seconds = counted(&[3; 12]);
        for width in [1, 2, 4, 12] {
            let spread = seconds.spread(0..12, width);
            assert_eq!((spread.mean, spread.peak, spread.ratio()), (3.0, 3.0, 1.0), "{width}");
        }
    }

    #[test]
    fn wider_buckets_forgive_more() {
        let seconds = counted(&[0, 0, 8, 0, 0, 0, 4, 0]);
        assert_eq!(seconds.spread(0..8, 1), Spread { mean: 1.5, peak: 8.0, peak_at: 2 });
        assert_eq!(seconds.spread(0..8, 2), Spread { mean: 1.5, peak: 4.0, peak_at: 2 });
        assert_eq!(seconds.spread(0..8, 4), Spread { mean: 1.5, peak: 2.0, peak_at: 0 });
    }

    #[test]
    fn only_whole_buckets_within_the_range_count() {
        let seconds = counted(&[100, 1, 1, 3, 3, 100]);
        assert_eq!(seconds.spread(1..5, 2), Spread { mean: 2.0, peak: 3.0, peak_at: 3 });
        assert_eq!(
            seconds.spread(1..6, 2),
            seconds.spread(1..5, 2),
            "the burst is in a bucket that is not whole"
        );
        assert_eq!(seconds.total(1..5), 8);
        assert_eq!(seconds.total(4..99), 103, "a range may end after the last second");
    }

    #[test]
    fn what_is_counted_too_late_is_dropped_and_nothing_has_no_ratio() {
        let seconds = counted(&[0, 0]);
        seconds.count(2);
        assert_eq!(seconds.total(0..2), 0);
        assert!(seconds.spread(0..2, 1).ratio().is_nan());
        assert!(seconds.spread(0..2, 5).ratio().is_nan(), "no whole bucket");
    }

    #[test]
    fn shards_add_up() {
        let sum = counted(&[1, 2, 3]);
        sum.add(&counted(&[1, 0, 4]));
        assert_eq!((sum.total(0..1), sum.total(1..2), sum.total(2..3)), (2, 2, 7));
    }
}
