//! Joins a [`Current`] to a pool.

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use tracing::{Instrument, Span, debug, info_span, warn};

use crate::{
    Credentials, Current, ErrorKind, EventKind, Generation, Issued, Retired, Rotate,
    clock::{Moment, sleep_until},
};

/// Makes `pool`, which opens its connections with `in_force`, follow `current`: adopts each successor once it is
/// proved, then retires what it replaced. It never returns; an adapter ends it with its pool, by dropping the future.
///
/// It holds the `Arc` of every generation that the pool still uses, and letting go of one is what lets the keeper
/// revoke its lease. A successor that cannot be adopted changes nothing; it is tried again at a growing interval.
///
/// # Cancel safety
/// Dropping the future ends the rotation; the leases are then revoked, so close the pool first.
pub async fn drive(current: Current<Credentials>, in_force: Arc<Issued<Credentials>>, pool: &dyn Rotate) {
    let mut driver =
        Driver { in_force, retiring: VecDeque::new(), failures: 0, retry_at: None, rotation: None };
    let (mut newer, mut open) = (current.clone(), true);
    loop {
        driver.adopt_if_due(&current, pool).await;
        tokio::select! {
            biased;
            changed = newer.changed(), if open => match changed {
                Ok(_) => (driver.failures, driver.retry_at) = (0, None),
                // The keeper waits for us to let go, and we for the pool to close.
                Err(_) => open = false,
            },
            () = driver.retry_is_due(&current) => driver.retry_at = None,
            retired = driver.retire_oldest(pool) => driver.let_go(&current, retired),
        }
    }
}

/// A generation that a newer one has replaced, and the span of that replacement.
struct Rotation {
    old: Arc<Issued<Credentials>>,
    span: Span,
}

struct Driver {
    in_force: Arc<Issued<Credentials>>,
    retiring: VecDeque<Rotation>,
    failures: u32,
    retry_at: Option<Moment>,
    /// The span of the rotation that is under way: one, however often its adoption is tried.
    rotation: Option<(Generation, Span)>,
}

impl Driver {
    async fn adopt_if_due(&mut self, current: &Current<Credentials>, pool: &dyn Rotate) {
        let Ok(next) = current.get() else { return };
        let generation = next.generation();
        if generation == self.in_force.generation() || self.retry_at.is_some() {
            return;
        }
        let span = self.span_of(generation, current);
        match pool.adopt(&next).instrument(span.clone()).await {
            Ok(()) => {
                debug!(parent: &span, username = next.secret().username(), "adopted");
                self.retiring.push_back(Rotation { old: std::mem::replace(&mut self.in_force, next), span });
                (self.failures, self.rotation) = (0, None);
                current.report(generation, EventKind::Adopted);
            }
            Err(error) => {
                let retry_in = adoption_delay(self.failures, current.clock().draw());
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Some(current.clock().now() + retry_in);
                warn!(parent: &span, %error, ?retry_in, "not adopted; the pool goes on with the generation before");
                if error.kind() == ErrorKind::CredentialsRefused {
                    current.reject(generation, error.kind());
                }
                current.report(generation, EventKind::Failed { error, retry_in });
            }
        }
    }

    fn span_of(&mut self, to: Generation, current: &Current<Credentials>) -> Span {
        match &self.rotation {
            Some((generation, span)) if *generation == to => span.clone(),
            _ => {
                let from = self.in_force.generation();
                let span = info_span!("rotation", secret = current.name(), %from, %to);
                self.rotation = Some((to, span.clone()));
                span
            }
        }
    }

    async fn retry_is_due(&self, current: &Current<Credentials>) {
        match self.retry_at {
            Some(at) => sleep_until(&**current.clock(), at).await,
            None => pending().await,
        }
    }

    async fn retire_oldest(&self, pool: &dyn Rotate) -> Retired {
        match self.retiring.front() {
            Some(Rotation { old, span }) => pool.retire(old).instrument(span.clone()).await,
            None => pending().await,
        }
    }

    fn let_go(&mut self, current: &Current<Credentials>, retired: Retired) {
        if let Some(Rotation { old, span }) = self.retiring.pop_front() {
            debug!(parent: &span, remaining = retired.remaining, "retired");
            current.report(old.generation(), EventKind::Retired { remaining: retired.remaining });
        }
    }
}

/// The wait before another adoption of the same generation: doubling from half a second to 15 s, less up to a half.
fn adoption_delay(failures: u32, jitter: f64) -> Duration {
    let full = FIRST_DELAY.saturating_mul(1 << failures.min(5)).min(LONGEST_DELAY);
    full.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_are_bounded_and_never_zero() {
        for failures in [0, 1, 5, 6, 1000, u32::MAX] {
            for jitter in [0.0, 0.5, 1.0] {
                let delay = adoption_delay(failures, jitter);
                assert!(delay >= FIRST_DELAY / 2 && delay <= LONGEST_DELAY, "{failures} {jitter} {delay:?}");
            }
        }
        assert!(adoption_delay(3, 0.0) > adoption_delay(2, 0.0));
    }
}
