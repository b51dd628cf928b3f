//! The canonical form of a state, for the search through all states: two states with the same future become one.
//!
//! Moments become differences to the present, and what is long past is only long past. Generations get the lowest numbers
//! in their order. A counter stops where it changes nothing any more. Each type with private fields says in its own module
//! how that is for it; a property of the search shows that a step does not tell the two forms apart.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use leasehold_core::{Generation, clock::Moment};

/// Brings the parts of one state to their canonical form, and sums them up in a key.
pub(crate) struct Canon {
    now: Moment,
    /// The generations that may still be spoken of, from the oldest on.
    generations: Vec<Generation>,
    /// The same of the token above.
    tokens: Vec<Generation>,
    /// Two hashes with different beginnings: with one of 64 bits, a few states of many millions would hide each other.
    hashers: [DefaultHasher; 2],
}

impl Canon {
    /// The present of every canonical state.
    pub(crate) const NOW: Moment = Moment::from_nanos(1_000_000_000_000_000);

    pub(crate) fn new(now: Moment, generations: Vec<Generation>, tokens: Vec<Generation>) -> Self {
        let hashers = [1_u64, 2].map(|beginning| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(beginning);
            hasher
        });
        Self { now, generations: ranked(generations), tokens: ranked(tokens), hashers }
    }

    pub(crate) fn key(&self) -> u128 {
        let [high, low] = &self.hashers;
        (u128::from(high.finish()) << 64) | u128::from(low.finish())
    }

    /// How many generations may still be spoken of.
    pub(crate) fn last_generation(&self) -> u64 {
        self.generations.len() as u64
    }

    /// A part that is canonical as it is.
    pub(crate) fn plain(&mut self, value: impl Hash) {
        self.hashers.iter_mut().for_each(|hasher| value.hash(hasher));
    }

    pub(crate) fn moment(&mut self, moment: &mut Moment) {
        self.moment_within(moment, HORIZON);
    }

    /// A moment that is all the same once it has been past for so long.
    pub(crate) fn moment_within(&mut self, moment: &mut Moment, horizon: Duration) {
        *moment = match *moment {
            Moment::NEVER => Moment::NEVER,
            past if past < self.now => Self::NOW.earlier(past.until(self.now).min(horizon)),
            future => Self::NOW + self.now.until(future),
        };
        self.plain(*moment);
    }

    /// A counter of which it only counts beyond `most` whether it is even.
    pub(crate) fn parity(&mut self, count: &mut u32, most: u32) {
        *count = if *count > most { most + (*count - most) % 2 } else { *count };
        self.plain(*count);
    }

    /// A counter that is all the same from `most` on.
    pub(crate) fn count(&mut self, count: &mut u32, most: u32) {
        *count = (*count).min(most);
        self.plain(*count);
    }

    pub(crate) fn generation(&mut self, generation: &mut Generation) {
        *generation = rank(&self.generations, *generation);
        self.plain(*generation);
    }

    pub(crate) fn token(&mut self, token: &mut Generation) {
        *token = rank(&self.tokens, *token);
        self.plain(*token);
    }

    pub(crate) fn is_ahead(&self, moment: Moment) -> bool {
        self.now < moment
    }

    pub(crate) fn speaks_of(&self, generation: Generation) -> bool {
        self.generations.contains(&generation)
    }

    pub(crate) fn speaks_of_token(&self, token: Generation) -> bool {
        self.tokens.contains(&token)
    }
}

fn ranked(mut generations: Vec<Generation>) -> Vec<Generation> {
    generations.sort_unstable();
    generations.dedup();
    generations
}

fn rank(ranked: &[Generation], generation: Generation) -> Generation {
    let before = ranked.iter().filter(|other| **other <= generation).count();
    Generation::new(before as u64)
}

/// A moment is all the same once it has been past for so long: longer than each wait that is counted from one, and than the
/// token above lives.
pub(crate) const HORIZON: Duration = Duration::from_secs(4000);
