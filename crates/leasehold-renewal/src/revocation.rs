//! Ending what nothing uses any more.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use leasehold_core::{
    Error, ErrorKind, EventKind, Generation, Provider, Record, Result, Revoked,
    clock::{Clock, Moment},
    publish::Publisher,
};
use tracing::{debug, info, warn};

use crate::{schedule::needs_an_operator, task::answer_within};

/// The issues that somebody still uses. It holds records, which are no users.
#[derive(Debug)]
pub(crate) struct Used<S>(Vec<Arc<Record<S>>>);

impl<S> Default for Used<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S> Used<S> {
    pub(crate) fn add(&mut self, record: &Arc<Record<S>>) {
        self.0.push(Arc::clone(record));
    }

    pub(crate) fn remove(&mut self, record: &Record<S>) {
        self.0.retain(|used| used.generation() != record.generation());
    }

    pub(crate) fn take(&mut self) -> Vec<Arc<Record<S>>> {
        std::mem::take(&mut self.0)
    }

    /// When the last of them ends, or `otherwise` if it does not.
    pub(crate) fn latest_end(&self, otherwise: Moment) -> Moment {
        match self.0.iter().map(|record| record.usable_until()).max() {
            None | Some(Moment::NEVER) => otherwise,
            Some(end) => end.max(otherwise),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The issues that nobody uses any more and that still are to be revoked.
#[derive(Debug)]
pub(crate) struct Revocations<S> {
    queue: VecDeque<Pending<S>>,
    /// The token under which the policy does not allow it: remembered, so that each lease does not cost two requests.
    forbidden: Option<Option<Generation>>,
    /// Whether that was said.
    said: bool,
    last_error: Option<Error>,
}

#[derive(Debug)]
struct Pending<S> {
    record: Arc<Record<S>>,
    at: Moment,
    failures: u32,
}

impl<S> Default for Revocations<S> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), forbidden: None, said: false, last_error: None }
    }
}

impl<S: Send + Sync + 'static> Revocations<S> {
    pub(crate) fn push(&mut self, record: Arc<Record<S>>, at: Moment) {
        if self.queue.iter().all(|pending| pending.record.generation() != record.generation()) {
            self.queue.push_back(Pending { record, at, failures: 0 });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Makes everything due.
    pub(crate) fn hurry(&mut self, now: Moment) {
        for pending in &mut self.queue {
            (pending.at, pending.failures) = (now, 0);
        }
    }

    pub(crate) fn next_at(&self) -> Moment {
        self.queue.iter().map(|pending| pending.at).min().unwrap_or(Moment::NEVER)
    }

    /// Makes one attempt for the issue that is due first. It stays in the queue until that has been answered.
    pub(crate) async fn revoke_one<P: Provider<Secret = S>>(
        &mut self,
        provider: &P,
        publisher: &Publisher<S>,
        clock: &dyn Clock,
        bound: Duration,
    ) {
        let due = self.queue.iter().enumerate().min_by_key(|(_, pending)| pending.at).map(|(index, _)| index);
        let Some(index) = due else { return };
        let record = Arc::clone(&self.queue[index].record);
        let generation = record.generation();
        let outcome = if record.granted_until() <= clock.now() {
            debug!(%generation, "ended by itself");
            None
        } else if self.forbidden == Some(token_of(&record)) {
            Some(EventKind::Revoked { alone: false })
        } else {
            match answer_within(clock, bound, provider.revoke(&record)).await {
                Ok(Revoked::Done) => Some(EventKind::Revoked { alone: true }),
                Ok(Revoked::NotOurs) => None,
                Err(error) => match error.kind() {
                    // With a dead token every lease issued under it is gone.
                    ErrorKind::LeaseGone | ErrorKind::DeadToken => Some(EventKind::Revoked { alone: false }),
                    ErrorKind::Denied => {
                        self.is_forbidden(&record, &error);
                        Some(EventKind::Revoked { alone: false })
                    }
                    _ => return self.retry(index, error, clock),
                },
            }
        };
        self.queue.remove(index);
        if let Some(kind) = outcome {
            info!(%generation, ?kind, "nothing uses it any more");
            publisher.emit(generation, kind);
        }
    }

    fn is_forbidden(&mut self, record: &Record<S>, error: &Error) {
        self.forbidden = Some(token_of(record));
        if !std::mem::replace(&mut self.said, true) {
            warn!(%error, "not allowed to revoke what nothing uses any more: it stays until its max TTL or its token's end");
        }
    }

    /// Puts it off, and what else is due with it: whatever is wrong, the next request would meet it too.
    fn retry(&mut self, index: usize, error: Error, clock: &dyn Clock) {
        let longest =
            if needs_an_operator(error.kind()) { LONGEST_WAIT_FOR_AN_OPERATOR } else { LONGEST_WAIT };
        if let Some(pending) = self.queue.get_mut(index) {
            let wait = longest.min(FIRST_WAIT.saturating_mul(1 << pending.failures.min(11)));
            let wait = wait.mul_f64(1.0 - 0.5 * fastrand::f64());
            let generation = pending.record.generation();
            if pending.failures == 0 && needs_an_operator(error.kind()) {
                warn!(%generation, %error, ?wait, "not revoked: somebody has to mend that");
            } else {
                debug!(%generation, %error, ?wait, "not revoked yet");
            }
            pending.failures = pending.failures.saturating_add(1);
            let at = clock.now() + wait;
            for other in &mut self.queue {
                other.at = other.at.max(at);
            }
            // Behind the others, which may fare better.
            self.queue[index].at = at + Duration::from_millis(1);
        }
        self.last_error = Some(error);
    }

    /// What a shut-down has to say about what is left.
    pub(crate) fn outcome(&self, name: &str) -> Result<()> {
        match (&self.last_error, self.queue.len()) {
            (_, 0) => Ok(()),
            (Some(error), left) => {
                let message = format!(
                    "{left} of {name} not revoked, left to end at its TTL or with its token: {}",
                    error.message()
                );
                Err(Error::new(error.kind(), error.party(), message))
            }
            (None, left) => {
                let message = format!(
                    "{left} of {name} not revoked within the bound, left to end at its TTL or with its token"
                );
                Err(Error::new(ErrorKind::Unreachable, leasehold_core::Party::Vault, message))
            }
        }
    }
}

/// The generation of the token that a record was issued under.
fn token_of<S>(record: &Record<S>) -> Option<Generation> {
    record.parent().map(|token| token.generation())
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT_FOR_AN_OPERATOR: Duration = Duration::from_secs(600);
