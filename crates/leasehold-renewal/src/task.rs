//! The task behind a keeper: it asks the schedule what to do, does it, and listens meanwhile.

use std::{future::pending, sync::Arc};

use leasehold_core::{
    Current, Error, ErrorKind, EventKind, Grant, Provider, Record, Renewed, Result,
    clock::{Moment, sleep_until},
    publish::{self, Channel, Published, Publisher, Rejection},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    Builder,
    rejections::Rejections,
    revocation::{Revocations, Used},
    schedule::{self, Failure, Known, Reason, Step},
};

/// A request to shut down.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) deadline: Moment,
    pub(crate) done: oneshot::Sender<Result<()>>,
}

type Started<S> = oneshot::Receiver<Result<Current<S>>>;

/// Starts the task. The first issue happens inside it, so that a caller who stops waiting loses no lease.
pub(crate) fn spawn<P: Provider + 'static>(
    settings: Builder,
    provider: P,
    stopped: oneshot::Receiver<Stop>,
) -> Started<P::Secret> {
    let (tell, started) = oneshot::channel();
    let name = provider.name();
    let span = info_span!("keeper", secret = %name);
    let task = async move {
        let Channel { publisher, farewells, rejections, current } =
            publish::channel(&name, settings.clock.clone());
        let sent = settings.clock.now();
        match provider.issue().await {
            Err(error) => {
                let _ = tell.send(Err(error));
            }
            Ok(grant) => {
                let mut task = Task::new(settings, provider, publisher, grant, sent);
                // Fails if the caller has gone: then nobody can read the value, and the task ends by itself.
                let _ = tell.send(Ok(current));
                task.run(farewells, rejections, stopped).await;
            }
        }
    };
    tokio::spawn(task.instrument(span));
    started
}

struct Task<P: Provider> {
    settings: Builder,
    provider: P,
    publisher: Publisher<P::Secret>,
    /// The facts of the current value; never its `Issued`, or the keeper would be a user of its own secret.
    record: Arc<Record<P::Secret>>,
    known: Known,
    /// Drawn once per attempt, so that thinking again does not move the attempt.
    jitter: f64,
    used: Used<P::Secret>,
    revocations: Revocations<P::Secret>,
    rejections: Rejections,
}

impl<P: Provider> Task<P> {
    fn new(
        settings: Builder,
        provider: P,
        mut publisher: Publisher<P::Secret>,
        grant: Grant<P::Secret>,
        sent: Moment,
    ) -> Self {
        let (Published::New(record) | Published::Same(record)) = publisher.publish(grant, sent);
        info!(generation = %record.generation(), ttl = ?record.lease().ttl(), "issued");
        let mut used = Used::default();
        used.add(&record);
        Self {
            settings,
            provider,
            publisher,
            known: known_of(&record, sent),
            record,
            jitter: fastrand::f64(),
            used,
            revocations: Revocations::default(),
            rejections: Rejections::default(),
        }
    }

    async fn run(
        &mut self,
        mut farewells: mpsc::UnboundedReceiver<Arc<Record<P::Secret>>>,
        mut rejections: mpsc::Receiver<Rejection>,
        mut stopped: oneshot::Receiver<Stop>,
    ) {
        let clock = Arc::clone(&self.settings.clock);
        let mut handle_gone = false;
        let (deadline, done) = loop {
            let now = clock.now();
            let plan = self.plan(now);
            let act_at = plan.map_or(Moment::NEVER, |plan| now + plan.delay);
            tokio::select! {
                biased;
                stop = &mut stopped, if !handle_gone => match stop {
                    Ok(Stop { deadline, done }) => break (deadline, Some(done)),
                    Err(_) => handle_gone = true,
                },
                () = self.publisher.unread() => break (clock.now() + self.settings.shutdown_bound, None),
                Some(record) = farewells.recv() => self.let_go(record),
                Some(rejection) = rejections.recv() => self.rejected(rejection),
                () = token_superseded(&self.record, &self.known) => {
                    debug!("the token above has a successor");
                    self.known.replace = Some((Reason::TokenSuperseded, clock.now()));
                    self.known.failure = None;
                }
                () = sleep_until(&*clock, act_at) => match plan.map(|plan| plan.step) {
                    Some(Step::Renew) => self.renew().await,
                    Some(Step::Replace) => self.replace().await,
                    Some(Step::Look) | None => {}
                },
                () = sleep_until(&*clock, self.revocations.next_at()) => {
                    self.revocations.revoke_one(&self.provider, &self.publisher, &*clock).await;
                }
            }
        };
        if done.is_none() {
            debug!("nobody can read the secret any more");
        }
        let ended = self.shut_down(farewells, deadline).await;
        match (done, ended) {
            (Some(done), ended) => {
                let _ = done.send(ended);
            }
            (None, Ok(())) => {
                info!("ended, and revoked what it had issued: nobody could read the secret any more")
            }
            (None, Err(error)) => warn!(%error, "ended without a shut-down, and left something behind"),
        }
    }

    /// What to do next, and when.
    fn plan(&mut self, now: Moment) -> Option<schedule::Plan> {
        self.look_at_token();
        schedule::next(now, &self.known, self.settings.drain_budget, self.jitter)
    }

    /// The token's own keeper moves its end while we sleep.
    fn look_at_token(&mut self) {
        self.known.parent_end = self.record.parent().map(|token| token.usable_until());
    }

    async fn renew(&mut self) {
        let sent = self.settings.clock.now();
        self.known.last_request = sent;
        let renewed = self.provider.renew(&self.record).await;
        self.jitter = fastrand::f64();
        match renewed {
            Ok(renewed) => self.renewed(renewed, sent),
            Err(error) => self.failed(&error, Step::Renew),
        }
    }

    fn renewed(&mut self, Renewed { ttl }: Renewed, sent: Moment) {
        let generation = self.record.generation();
        let truncated = self.record.lease().ttl().is_some_and(|asked| ttl < asked);
        if !ttl.is_zero() {
            self.known.own_end = sent + ttl;
            self.publisher.extend(&self.record, self.known.own_end);
            (self.known.granted_at, self.known.granted) = (sent, Some(ttl));
        }
        (self.known.failure, self.known.verify) = (None, false);
        self.look_at_token();
        self.known.capped = truncated && ends_with_its_token(&self.known);
        if truncated && !self.known.capped {
            self.known.replace = Some((Reason::Truncated, sent));
        }
        debug!(%generation, ?ttl, truncated, "renewed");
        self.publisher.emit(generation, EventKind::Renewed { ttl, truncated });
        self.recovered();
    }

    async fn replace(&mut self) {
        let sent = self.settings.clock.now();
        self.known.last_request = sent;
        let issued = self.provider.issue().await;
        self.jitter = fastrand::f64();
        match issued {
            Ok(grant) => self.replaced(grant, sent).await,
            Err(error) => self.failed(&error, Step::Replace),
        }
    }

    async fn replaced(&mut self, grant: Grant<P::Secret>, sent: Moment) {
        let reason = self.known.replace.map(|(reason, _)| reason);
        match self.publisher.publish(grant, sent) {
            Published::New(record) => {
                info!(generation = %record.generation(), ttl = ?record.lease().ttl(), ?reason, "issued a successor");
                self.used.add(&record);
                let old = std::mem::replace(&mut self.record, record);
                let before = std::mem::replace(&mut self.known, known_of(&self.record, sent));
                self.recovered();
                if reason == Some(Reason::TokenSuperseded) {
                    self.renew_for_the_last_time(&old, &before).await;
                }
            }
            Published::Same(record) => {
                let (own_end, unchanged) = (record.own_end(), self.known.unchanged.saturating_add(1));
                let renewable = self.known.renewable && reason.is_none();
                self.known = Known { own_end, unchanged, renewable, ..known_of(&self.record, sent) };
                if matches!(reason, Some(Reason::Truncated | Reason::Ended | Reason::Rejected)) {
                    warn!(generation = %record.generation(), ?reason, "it has no successor: the provider answers with the same again");
                }
                self.recovered();
            }
        }
    }

    /// The old lease will not be renewed again, so this is all the time there is for draining.
    async fn renew_for_the_last_time(&mut self, old: &Record<P::Secret>, before: &Known) {
        let can_gain = before.renewable && !before.token_is_the_limit();
        if !can_gain || old.usable_until() <= self.settings.clock.now() {
            return;
        }
        let sent = self.settings.clock.now();
        match self.provider.renew(old).await {
            Ok(Renewed { ttl }) => self.publisher.extend(old, old.own_end().max(sent + ttl)),
            Err(error) => debug!(generation = %old.generation(), %error, "not renewed for draining"),
        }
    }

    fn failed(&mut self, error: &Error, step: Step) {
        let now = self.settings.clock.now();
        let known = &mut self.known;
        match (step, error.kind()) {
            (Step::Renew, ErrorKind::LeaseGone | ErrorKind::DeadToken) => {
                (known.replace, known.failure) = (Some((Reason::Ended, now)), None);
            }
            (Step::Renew, ErrorKind::RenewalFailed) if known.verify => {
                (known.replace, known.failure) =
                    (Some((Reason::Rejected, self.rejections.replace_at(now))), None);
            }
            (Step::Renew, ErrorKind::NotRenewable) => (known.renewable, known.failure) = (false, None),
            (_, kind) => {
                let count = known.failure.map_or(1, |before| before.count.saturating_add(1));
                known.failure = Some(Failure { count, at: now, kind, retry_after: error.retry_after() });
            }
        }
        let retry_in = self.plan(now).map_or_else(Default::default, |plan| plan.delay);
        let left = now.until(self.known.usable_until());
        let generation = self.record.generation();
        if left < self.settings.drain_budget.min(self.record.lease().ttl().unwrap_or_default() / 2) {
            warn!(%generation, %error, ?left, ?retry_in, "the secret nears its end");
        } else {
            info!(%generation, %error, ?left, ?retry_in, "a request failed; the secret in use is not touched");
        }
        self.publisher.failed(generation, error.clone(), retry_in);
    }

    fn recovered(&mut self) {
        if self.publisher.succeeded(self.record.generation()) {
            info!("requests succeed again");
        }
    }

    fn rejected(&mut self, Rejection { generation, cause }: Rejection) {
        if generation != self.record.generation() || self.known.verify || self.known.replace.is_some() {
            return;
        }
        let now = self.settings.clock.now();
        info!(%generation, %cause, "rejected by whoever uses it");
        self.publisher.emit(generation, EventKind::Rejected { cause });
        if self.publisher.adopted() == Some(generation) {
            self.rejections.reset();
        }
        let ttl = self.record.lease().ttl().unwrap_or_default();
        if self.rejections.should_verify(generation, cause) && self.known.renewable {
            self.known.verify = true;
        } else {
            self.known.replace = Some((Reason::Rejected, self.rejections.next_replacement(now, ttl)));
        }
    }

    fn let_go(&mut self, record: Arc<Record<P::Secret>>) {
        self.used.remove(&record);
        self.revocations.push(record, self.settings.clock.now());
    }

    /// Waits for the users to go for most of the time, then revokes whatever is left.
    async fn shut_down(
        &mut self,
        mut farewells: mpsc::UnboundedReceiver<Arc<Record<P::Secret>>>,
        deadline: Moment,
    ) -> Result<()> {
        let clock = Arc::clone(&self.settings.clock);
        self.publisher.close();
        let now = clock.now();
        let mut users_deadline = now + now.until(deadline).mul_f64(SHARE_OF_USERS);
        while !(self.used.is_empty() && self.revocations.is_empty()) {
            tokio::select! {
                biased;
                () = sleep_until(&*clock, deadline) => break,
                Some(record) = farewells.recv() => self.let_go(record),
                () = sleep_until(&*clock, users_deadline) => {
                    users_deadline = Moment::NEVER;
                    warn!(generations = self.used.len(), "still in use at shut-down; revoked all the same: shut down leaf first, pools before anything");
                    for record in self.used.take() {
                        self.revocations.push(record, clock.now());
                    }
                }
                () = sleep_until(&*clock, self.revocations.next_at()) => tokio::select! {
                    () = sleep_until(&*clock, deadline) => break,
                    () = self.revocations.revoke_one(&self.provider, &self.publisher, &*clock) => {}
                },
            }
        }
        self.revocations.outcome(self.publisher.name())
    }
}

async fn token_superseded<S>(record: &Record<S>, known: &Known) {
    match record.parent() {
        Some(token) if known.replace.is_none_or(|(reason, _)| reason != Reason::TokenSuperseded) => {
            token.superseded().await
        }
        _ => pending().await,
    }
}

fn known_of<S>(record: &Record<S>, sent: Moment) -> Known {
    let mut known = Known {
        granted_at: sent,
        granted: record.lease().ttl(),
        own_end: record.own_end(),
        parent_end: record.parent().map(|token| token.usable_until()),
        renewable: record.lease().renewable(),
        capped: false,
        verify: false,
        replace: None,
        last_request: sent,
        failure: None,
        unchanged: 0,
    };
    known.capped = ends_with_its_token(&known);
    known
}

fn ends_with_its_token(known: &Known) -> bool {
    known.token_is_the_limit()
        && known.parent_end.is_some_and(|parent| known.own_end <= parent + schedule::SAME_END)
}

/// The share of a shut-down's time in which users may still go by themselves; the rest is for revoking.
const SHARE_OF_USERS: f64 = 0.7;
