//! The task behind a keeper: it asks the schedule what to do, does it, and listens meanwhile.

use std::{future::pending, sync::Arc, time::Duration};

use leasehold_core::{
    Current, Error, ErrorKind, EventKind, Grant, Party, Provider, Record, Renewed, Result, TokenKind,
    clock::{Clock, Moment, sleep_until},
    publish::{self, Channel, Published, Publisher, Rejection},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    Builder,
    budget::Budget,
    rejections::Rejections,
    revocation::{Revocations, Used},
    schedule::{self, Failure, Known, Reason, Step},
    start::{Waiting, first_grant},
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
    mut stopped: oneshot::Receiver<Stop>,
) -> Started<P::Secret> {
    let (tell, started) = oneshot::channel();
    let name = provider.name();
    let span = info_span!("keeper", secret = %name);
    let task = async move {
        let Channel { publisher, farewells, rejections, current } =
            publish::channel(&name, settings.clock.clone());
        let mut waiting = Waiting { tell: Some(tell), current: Some(current) };
        let first = first_grant(&settings, &provider, &publisher, &mut waiting, &mut stopped).await;
        if let Some((grant, sent)) = first {
            let mut task = Task::new(settings, provider, publisher, grant, sent);
            waiting.started();
            task.run(farewells, rejections, stopped).await;
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
    issued_at: Moment,
    known: Known,
    /// Drawn once per attempt, so that thinking again does not move the attempt.
    jitter: f64,
    used: Used<P::Secret>,
    revocations: Revocations<P::Secret>,
    rejections: Rejections,
    budget: Budget,
    /// Whether it was said that the budget is used up.
    over_budget: bool,
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
        publisher.succeeded(record.generation());
        let mut used = Used::default();
        used.add(&record);
        let mut budget = Budget::new(settings.issue_budget, record.lease().ttl());
        budget.spend(sent);
        Self {
            settings,
            provider,
            publisher,
            known: known_of(&record, sent),
            record,
            issued_at: sent,
            jitter: fastrand::f64(),
            used,
            revocations: Revocations::default(),
            rejections: Rejections::default(),
            budget,
            over_budget: false,
        }
    }

    async fn run(
        &mut self,
        mut farewells: mpsc::UnboundedReceiver<Arc<Record<P::Secret>>>,
        mut rejections: mpsc::Receiver<Rejection>,
        mut stopped: oneshot::Receiver<Stop>,
    ) {
        let clock = Arc::clone(&self.settings.clock);
        let mut jumps = clock.jumps();
        let (mut handle_gone, mut plan, mut act_at, mut replan) = (false, None, Moment::NEVER, true);
        let (deadline, done) = loop {
            // Not for every message: each plan leaves a little time, and a storm would postpone the step for ever.
            if std::mem::replace(&mut replan, true) {
                let now = clock.now();
                plan = self.plan(now);
                act_at = plan.map_or(Moment::NEVER, |plan| now + plan.delay);
            }
            tokio::select! {
                biased;
                stop = &mut stopped, if !handle_gone => match stop {
                    Ok(Stop { deadline, done }) => break (deadline, Some(done)),
                    Err(_) => handle_gone = true,
                },
                // The last handle may be the one that shuts down: its word may have come since we looked.
                () = self.publisher.unread() => match stopped.try_recv() {
                    Ok(Stop { deadline, done }) => break (deadline, Some(done)),
                    Err(_) => break (clock.now() + self.settings.shutdown_bound, None),
                },
                () = sleep_until(&*clock, act_at) => match plan.map(|plan| plan.step) {
                    Some(Step::Renew) => self.renew().await,
                    Some(Step::Replace) => self.replace().await,
                    Some(Step::Look) | None => {}
                },
                Some(record) = farewells.recv() => {
                    self.let_go(record);
                    replan = false;
                }
                Some(rejection) = rejections.recv() => replan = self.rejected(rejection),
                // Ours may have stood still while the server's went on, as when a virtual machine is paused: ask.
                Ok(()) = jumps.changed() => self.known.look = true,
                () = token_superseded(&self.record, &self.known) => {
                    debug!("the token above has a successor");
                    self.known.replace = Some((Reason::TokenSuperseded, clock.now()));
                    self.known.failure = None;
                }
                () = sleep_until(&*clock, self.revocations.next_at()) => {
                    let bound = self.patience();
                    self.revocations.revoke_one(&self.provider, &self.publisher, &*clock, bound).await;
                    replan = false;
                }
            }
        };
        let deadline = match &done {
            Some(done) if !done.is_closed() => deadline,
            // Nobody waits: for a request that was in flight until now, or because the last handle has gone.
            Some(_) => clock.now() + self.settings.shutdown_bound,
            None => self.used.latest_end(clock.now() + self.settings.shutdown_bound),
        };
        // Whoever still uses it after the last handle has gone may do so to its end.
        let share_of_users = if done.is_some() { SHARE_OF_USERS } else { 1.0 };
        let ended = self.shut_down(farewells, deadline, share_of_users).await;
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
        let mut plan = schedule::next(now, &self.known, self.settings.drain_budget, self.jitter)?;
        if plan.step == Step::Replace {
            let affordable = now.until(self.budget.next_at(now));
            if affordable > plan.delay {
                plan.delay = affordable;
                self.say_over_budget(affordable);
            }
        }
        Some(plan)
    }

    fn say_over_budget(&mut self, wait: Duration) {
        if std::mem::replace(&mut self.over_budget, true) {
            return;
        }
        let message =
            format!("{} was issued too often, and waits: is it refused each time?", self.publisher.name());
        let error = Error::new(ErrorKind::RateLimited, Party::Configuration, message);
        warn!(%error, ?wait, "the budget for issuing is used up");
        self.publisher.failed(self.record.generation(), error, wait);
    }

    /// The token's own keeper moves its end while we sleep.
    fn look_at_token(&mut self) {
        self.known.parent_end = self.record.parent().map(|token| token.usable_until());
    }

    async fn renew(&mut self) {
        let sent = self.settings.clock.now();
        self.known.last_request = sent;
        let renewed = self.within_reason(self.provider.renew(&self.record)).await;
        self.jitter = fastrand::f64();
        match renewed {
            Ok(renewed) => self.renewed(renewed, sent),
            Err(error) => self.failed(&error, Step::Renew),
        }
    }

    /// How long to wait for an answer: one that hangs must not eat the time that a successor needs. (An issue is never
    /// cut off.)
    fn patience(&self) -> Duration {
        let left = self.settings.clock.now().until(self.known.usable_until());
        (left / 2).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    async fn within_reason<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        answer_within(&*self.settings.clock, self.patience(), request).await
    }

    fn renewed(&mut self, Renewed { ttl }: Renewed, sent: Moment) {
        let generation = self.record.generation();
        let truncated = ttl < self.record.lease().increment();
        if !ttl.is_zero() {
            self.known.own_end = sent + ttl;
            self.publisher.extend(&self.record, self.known.own_end);
            (self.known.granted_at, self.known.granted) = (sent, Some(ttl));
        }
        // An outage that ends, and a clock that jumps, put a whole fleet in step.
        self.known.in_step = self.known.failure.is_some() || self.known.look;
        (self.known.failure, self.known.verify, self.known.look) = (None, false, false);
        self.look_at_token();
        self.known.capped = truncated && ends_with_its_token(&self.record, &self.known);
        if truncated && !self.known.capped {
            let budget = schedule::drain_budget(
                self.settings.drain_budget,
                self.record.lease().ttl().unwrap_or_default(),
            );
            let end = self.known.usable_until();
            let at = schedule::replace_truncated_at(sent, end, budget, self.jitter);
            self.known.replace = Some((Reason::Truncated, at));
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
        let granted = grant.lease.ttl();
        match self.publisher.publish(grant, sent) {
            Published::New(record) => {
                info!(generation = %record.generation(), ttl = ?record.lease().ttl(), ?reason, "issued a successor");
                self.used.add(&record);
                self.budget.spend(sent);
                self.over_budget = false;
                self.issued_at = sent;
                let old = std::mem::replace(&mut self.record, record);
                let before = std::mem::replace(&mut self.known, known_of(&self.record, sent));
                // What went by plan was spread already.
                self.known.in_step = reason.is_some_and(|reason| reason != Reason::Truncated);
                if self.known.granted == Some(Duration::ZERO) {
                    self.known.unchanged = before.unchanged.saturating_add(1);
                }
                self.recovered();
                if reason == Some(Reason::TokenSuperseded) {
                    self.renew_for_the_last_time(&old, &before).await;
                }
            }
            Published::Same(record) => {
                let (own_end, unchanged) = (record.own_end(), self.known.unchanged.saturating_add(1));
                let renewable = self.known.renewable && reason != Some(Reason::Truncated);
                let in_step = false;
                self.known =
                    Known { own_end, granted, unchanged, renewable, in_step, ..known_of(&self.record, sent) };
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
        match self.within_reason(self.provider.renew(old)).await {
            Ok(Renewed { ttl }) => self.publisher.extend(old, old.own_end().max(sent + ttl)),
            Err(error) => debug!(generation = %old.generation(), %error, "not renewed for draining"),
        }
    }

    fn failed(&mut self, error: &Error, step: Step) {
        let now = self.settings.clock.now();
        let known = &mut self.known;
        known.look = false;
        match (step, error.kind()) {
            // The question cannot be answered, or the answer is that it is dead; either way it counts as a rejection.
            (Step::Renew, kind)
                if known.verify && (kind == ErrorKind::RenewalFailed || !kind.is_retryable()) =>
            {
                let ttl = self.record.lease().ttl().unwrap_or_default();
                let at = self.rejections.next_replacement(now, ttl);
                (known.replace, known.failure, known.verify) = (Some((Reason::Rejected, at)), None, false);
            }
            (Step::Renew, ErrorKind::LeaseGone | ErrorKind::DeadToken) => {
                (known.replace, known.failure) = (Some((Reason::Ended, now)), None);
            }
            (Step::Renew, ErrorKind::NotRenewable) => {
                // A fact, not trouble: it is replaced before its end.
                debug!(%error, "it cannot be renewed");
                (known.renewable, known.failure) = (false, None);
                return;
            }
            (_, kind) => {
                let count = known.failure.map_or(1, |before| before.count.saturating_add(1));
                known.failure = Some(Failure { count, at: now, kind, retry_after: error.retry_after() });
                if step == Step::Replace {
                    // Once it was given up to renew it, its renewal is not tried in turns with an issue.
                    known.replace.get_or_insert((Reason::Ended, now));
                }
            }
        }
        if step == Step::Renew && error.kind() == ErrorKind::LeaseGone {
            self.known.own_end = self.known.own_end.min(now);
            self.publisher.extend(&self.record, self.known.own_end);
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

    /// Returns whether that changes anything.
    fn rejected(&mut self, Rejection { generation, cause }: Rejection) -> bool {
        if generation != self.record.generation() || self.known.verify || self.known.replace.is_some() {
            return false;
        }
        let now = self.settings.clock.now();
        if cause == ErrorKind::DeadToken && now < self.issued_at + REPLICATION {
            // A standby may not have heard of it yet; whoever was refused tries again shortly.
            return false;
        }
        info!(%generation, %cause, "rejected by whoever uses it");
        self.publisher.emit(generation, EventKind::Rejected { cause });
        let ttl = self.record.lease().ttl().unwrap_or_default();
        if self.known.failure.is_some_and(|failure| !failure.kind.is_retryable()) {
            // It was tried slowly for want of a reason to hurry; here is one.
            self.known.failure = None;
        }
        if self.rejections.should_verify(generation, cause) && self.known.renewable {
            self.known.verify = true;
        } else {
            self.known.replace = Some((Reason::Rejected, self.rejections.next_replacement(now, ttl)));
        }
        true
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
        share_of_users: f64,
    ) -> Result<()> {
        let clock = Arc::clone(&self.settings.clock);
        self.publisher.close();
        let now = clock.now();
        self.revocations.hurry(now);
        let mut users_deadline = now + now.until(deadline).mul_f64(share_of_users);
        while !(self.used.is_empty() && self.revocations.is_empty()) {
            tokio::select! {
                biased;
                () = sleep_until(&*clock, deadline) => break,
                Some(record) = farewells.recv() => self.let_go(record),
                () = sleep_until(&*clock, users_deadline) => {
                    users_deadline = Moment::NEVER;
                    if self.used.is_empty() {
                        continue;
                    }
                    warn!(generations = self.used.len(), "still in use at shut-down; revoked all the same: shut down leaf first, pools before anything");
                    for record in self.used.take() {
                        self.revocations.push(record, clock.now());
                    }
                }
                () = sleep_until(&*clock, self.revocations.next_at()) => {
                    let bound = clock.now().until(deadline).min(LONGEST_WAIT);
                    self.revocations.revoke_one(&self.provider, &self.publisher, &*clock, bound).await;
                }
            }
        }
        // What was not even begun is left too, and said.
        while let Ok(record) = farewells.try_recv() {
            self.let_go(record);
        }
        for record in self.used.take() {
            self.revocations.push(record, deadline);
        }
        self.revocations.outcome(self.publisher.name())
    }
}

pub(crate) async fn answer_within<T>(
    clock: &dyn Clock,
    bound: Duration,
    request: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        answer = request => answer,
        () = sleep_until(clock, clock.now() + bound) => {
            Err(Error::new(ErrorKind::Unreachable, Party::Vault, format!("no answer within {bound:?}")))
        }
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
        // What was lent for no time at all is not worth a renewal.
        renewable: record.lease().renewable() && record.lease().ttl() != Some(Duration::ZERO),
        capped: false,
        verify: false,
        look: false,
        in_step: true,
        replace: None,
        last_request: sent,
        failure: None,
        unchanged: 0,
    };
    known.capped = ends_with_its_token(record, &known);
    known
}

/// Only a batch token caps its leases to its own rest.
fn ends_with_its_token<S>(record: &Record<S>, known: &Known) -> bool {
    record.parent().is_some_and(|token| token.secret().kind() == TokenKind::Batch)
        && known.token_is_the_limit()
        && known.parent_end.is_some_and(|parent| known.own_end <= parent + schedule::SAME_END)
}

const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a token may be unknown to a node that did not issue it.
const REPLICATION: Duration = Duration::from_secs(1);
/// The share of a shut-down's time in which users may still go by themselves; the rest is for revoking.
const SHARE_OF_USERS: f64 = 0.7;
