//! Obtaining the very first secret.

use leasehold_core::{
    Current, Error, ErrorKind, Generation, Grant, Party, Provider, Result,
    clock::{Moment, sleep_until},
    publish::Publisher,
};
use tokio::sync::oneshot;
use tracing::info;

use crate::{
    Builder, StartPolicy,
    schedule::{self, Failure},
    task::Stop,
};

/// Who waits for the keeper to start, and what they get.
pub(crate) struct Waiting<S> {
    pub(crate) tell: Option<oneshot::Sender<Result<Current<S>>>>,
    pub(crate) current: Option<Current<S>>,
}

impl<S> Waiting<S> {
    /// Hands the handle over. Whoever waited may have gone: then nobody can read the value, and the task ends by itself.
    pub(crate) fn started(&mut self) {
        if let (Some(tell), Some(current)) = (self.tell.take(), self.current.take()) {
            let _ = tell.send(Ok(current));
        }
    }

    fn failed(&mut self, error: Error) {
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(Err(error));
        }
    }

    async fn gone(&mut self) {
        match &mut self.tell {
            Some(tell) => tell.closed().await,
            None => std::future::pending().await,
        }
    }
}

/// Tries as the policy says. Returns nothing if there is to be no keeper, because it failed or nobody wants it any more.
pub(crate) async fn first_grant<P: Provider>(
    settings: &Builder,
    provider: &P,
    publisher: &Publisher<P::Secret>,
    waiting: &mut Waiting<P::Secret>,
    stopped: &mut oneshot::Receiver<Stop>,
) -> Option<(Grant<P::Secret>, Moment)> {
    let clock = &*settings.clock;
    let give_up = match settings.start_policy {
        StartPolicy::FailAtOnce => clock.now(),
        StartPolicy::WaitUpTo(bound) => clock.now() + bound,
        StartPolicy::Degraded => {
            waiting.started();
            Moment::NEVER
        }
    };
    let (mut failures, mut handle_gone, mut said) = (0_u32, false, None);
    loop {
        let sent = clock.now();
        let error = match provider.issue().await {
            Ok(grant) => return Some((grant, sent)),
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        let failure = Failure {
            count: failures,
            at: clock.now(),
            kind: error.kind(),
            retry_after: error.retry_after(),
            orphaned: error.may_have_been_carried_out(),
        };
        let wait = schedule::start_delay(&failure, fastrand::f64());
        let again = clock.now() + wait;
        // A token of a moment ago may be unknown to a standby, and one that has died is replaced by its own keeper.
        let of_another = error.kind() == ErrorKind::DeadToken && error.party() == Party::Vault;
        let hopeless = schedule::needs_an_operator(error.kind()) && !of_another && give_up != Moment::NEVER;
        if hopeless || again >= give_up {
            waiting.failed(error);
            return None;
        }
        // Nothing was asked of anybody while the token is not there yet: once is enough to say so.
        if error.kind() != ErrorKind::NotYet || said.replace(error.kind()) != Some(ErrorKind::NotYet) {
            info!(%error, ?wait, "the first secret cannot be obtained yet");
            publisher.failed(Generation::new(0), error, wait);
        }
        loop {
            tokio::select! {
                () = sleep_until(clock, again) => break,
                () = waiting.gone() => return None,
                () = publisher.unread() => {
                    if let Ok(Stop { done, .. }) = stopped.try_recv() {
                        let _ = done.send(Ok(()));
                    }
                    return None;
                }
                stop = &mut *stopped, if !handle_gone => match stop {
                    Ok(Stop { done, .. }) => {
                        publisher.close();
                        let _ = done.send(Ok(()));
                        return None;
                    }
                    Err(_) => handle_gone = true,
                },
            }
        }
    }
}
