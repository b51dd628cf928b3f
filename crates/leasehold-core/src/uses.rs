//! Tokens that may be used only so often.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// How often a token of limited uses (`token_num_uses`) may still be used. With the last use the token ends, and every
/// lease issued under it. Clones share the count; whoever sends a request with the token takes one from it.
///
/// ```
/// use leasehold_core::Uses;
///
/// let uses = Uses::new(4);
/// uses.clone().take_one();
/// assert_eq!((uses.left(), uses.are_few()), (3, false));
/// uses.take_one();
/// assert!(uses.are_few(), "what is left is for renewing and revoking what was issued");
/// ```
#[derive(Clone, Debug)]
pub struct Uses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    left: AtomicU64,
    reserve: u64,
    few: Notify,
}

impl Uses {
    /// So many are left now.
    pub fn new(left: u64) -> Self {
        let reserve = (left / 2).min(LARGEST_RESERVE);
        Self(Arc::new(Shared { left: AtomicU64::new(left), reserve, few: Notify::new() }))
    }

    /// Counts one request, sent or about to be.
    pub fn take_one(&self) {
        let take = |left: u64| Some(left.saturating_sub(1));
        let _ = self.0.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        if self.are_few() {
            self.0.few.notify_waiters();
        }
    }

    /// How many are left, as far as this process knows.
    pub fn left(&self) -> u64 {
        self.0.left.load(Ordering::Acquire)
    }

    /// Whether it is time for another token: half of them are left, or sixteen.
    pub fn are_few(&self) -> bool {
        self.left() <= self.0.reserve
    }

    /// Waits until few are left.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn until_few(&self) {
        // Made before the look: a `Notified` hears of what happens after it was made.
        let told = self.0.few.notified();
        if !self.are_few() {
            told.await;
        }
    }
}

/// Terms are the same when they say the same.
impl PartialEq for Uses {
    fn eq(&self, other: &Self) -> bool {
        (self.left(), self.0.reserve) == (other.left(), other.0.reserve)
    }
}

impl Eq for Uses {}

/// For a last renewal and a revocation of each of a few leases, and of the token itself.
const LARGEST_RESERVE: u64 = 16;
