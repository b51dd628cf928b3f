//! Tokens that may be used only so often.

use std::sync::Arc;

use tokio::sync::watch;

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
pub struct Uses {
    left: Arc<watch::Sender<u64>>,
    reserve: u64,
}

impl Uses {
    /// So many are left now.
    pub fn new(left: u64) -> Self {
        Self { left: Arc::new(watch::channel(left).0), reserve: (left / 2).min(LARGEST_RESERVE) }
    }

    /// Counts one request, sent or about to be.
    pub fn take_one(&self) {
        self.left.send_modify(|left| *left = left.saturating_sub(1));
    }

    /// How many are left, as far as this process knows.
    pub fn left(&self) -> u64 {
        *self.left.borrow()
    }

    /// Whether it is time for another token: half of them are left, or sixteen.
    pub fn are_few(&self) -> bool {
        self.left() <= self.reserve
    }

    /// Waits until few are left.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn until_few(&self) {
        // The sender is `self`, so waiting cannot fail.
        let _ = self.left.subscribe().wait_for(|left| *left <= self.reserve).await;
    }
}

/// Terms are the same when they say the same.
impl PartialEq for Uses {
    fn eq(&self, other: &Self) -> bool {
        (self.left(), self.reserve) == (other.left(), other.reserve)
    }
}

impl Eq for Uses {}

/// For a last renewal and a revocation of each of a few leases, and of the token itself.
const LARGEST_RESERVE: u64 = 16;
