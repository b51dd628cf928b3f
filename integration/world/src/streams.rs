//! Random numbers: one seed, and a stream for each purpose.
//!
//! A stream is derived from the seed and a name. So a fault that is taken out of a plan shifts no other draw, and a plan that
//! failed can be made smaller and still fail.

use fastrand::Rng;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams(u64);

impl Streams {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn named(self, name: &str) -> Rng {
        Rng::with_seed(hash(name.as_bytes(), self.0 ^ BASIS))
    }
}

/// FNV-1a, which is the same on every machine and in every version of Rust.
pub(crate) fn hash(bytes: &[u8], from: u64) -> u64 {
    bytes.iter().fold(from, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

pub(crate) const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
