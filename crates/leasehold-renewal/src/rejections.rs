//! How fast a refused secret is replaced: a pool that nothing can satisfy must not make Vault issue without end.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation, clock::Moment};

/// The rejections of one keeper. Five quiet minutes forgive them, and an adoption does not: of two pools on the same
/// credentials one may adopt and the other refuse each generation, and a token is adopted by no pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rejections {
    verified: Option<Generation>,
    replaced: u32,
    not_before: Option<Moment>,
    pause: Duration,
}

impl Rejections {
    /// Whether to ask the server first. A token that is dead has been asked about already.
    pub(crate) fn should_verify(&mut self, generation: Generation, cause: ErrorKind) -> bool {
        let first = self.verified != Some(generation);
        self.verified = Some(generation);
        first && cause != ErrorKind::DeadToken
    }

    /// When the next replacement may happen, and notes that it does: at once, then at intervals that double from half
    /// a second to a third of the TTL.
    pub(crate) fn next_replacement(&mut self, now: Moment, ttl: Option<Duration>) -> Moment {
        if self.not_before.is_some_and(|at| at + self.pause.max(QUIET) <= now) {
            self.replaced = 0;
        }
        let at = self.replace_at(now);
        self.pause = FIRST
            .saturating_mul(1 << self.replaced.min(16))
            .min(ttl.map_or(SLOWEST, |ttl| ttl / 3).max(FIRST));
        self.not_before = Some(at + self.pause);
        self.replaced = self.replaced.saturating_add(1);
        at
    }

    /// When a replacement may happen.
    pub(crate) fn replace_at(&self, now: Moment) -> Moment {
        self.not_before.map_or(now, |not_before| not_before.max(now))
    }
}

const FIRST: Duration = Duration::from_millis(500);
/// Where there is no TTL.
const SLOWEST: Duration = Duration::from_secs(60);
/// After so long without a rejection the next one is a new matter.
const QUIET: Duration = Duration::from_secs(300);

#[cfg(test)]
impl Rejections {
    pub(crate) fn canonical(&mut self, now: Moment, canon: &mut crate::canonical::Canon) {
        if self.not_before.is_some_and(|at| at + self.pause.max(QUIET) <= now) {
            *self = Self { verified: self.verified, ..Self::default() };
        }
        let Self { verified, replaced, not_before, pause } = self;
        *verified = verified.filter(|generation| canon.speaks_of(*generation));
        verified.iter_mut().for_each(|generation| canon.generation(generation));
        // Ten times doubled, the pause is longer than a third of the longest TTL of the search.
        canon.count(replaced, 10);
        not_before.iter_mut().for_each(|at| canon.moment(at));
        canon.plain((verified.is_some(), not_before.is_some(), *pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_slow_down_to_a_third_of_the_ttl_until_one_is_adopted() {
        let (mut rejections, ttl) = (Rejections::default(), Duration::from_secs(12));
        let mut now = Moment::from_nanos(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let at = rejections.next_replacement(now, Some(ttl));
            waits.push(now.until(at).as_millis());
            now = at;
        }
        assert_eq!(waits, [0, 500, 1000, 2000, 4000, 4000]);
        now = now + ttl + QUIET;
        assert_eq!(rejections.next_replacement(now, Some(ttl)), now);
    }

    #[test]
    fn each_generation_is_verified_once() {
        let mut rejections = Rejections::default();
        let generation = Generation::new(1);
        assert!(rejections.should_verify(generation, ErrorKind::CredentialsRefused));
        assert!(!rejections.should_verify(generation, ErrorKind::CredentialsRefused));
        assert!(!rejections.should_verify(Generation::new(2), ErrorKind::DeadToken));
    }
}
