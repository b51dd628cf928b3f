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
    guarded::Guarded,
    rejections::Rejections,
    revocation::{Revocations, Used},
    schedule::{self, Failure, Known, Reason, Step},
    start::{Waiting, first_grant},
};

/// A request to shut down.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) asked_at: Moment,
    pub(crate) deadline: Moment,
    pub(crate) done: oneshot::Sender<Result<()>>,
}

impl Stop {
    /// The deadline, or nothing if a request that was in flight has used the time up: what it granted is to be revoked.
    fn deadline_at(&self, now: Moment) -> Option<Moment> {
        let bound = self.asked_at.until(self.deadline);
        (now.until(self.deadline) >= bound / 4).then_some(self.deadline)
    }
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
    let provider = Guarded(provider);
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
    /// Before this moment another jump of time is no reason to ask.
    next_look: Moment,
    /// Whether it was said that the budget is used up.
    over_budget: bool,
    /// Whether renewals of the generation before were denied until it was replaced: the policy is made that way.
    renewals_denied: bool,
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
        let budget = Budget::new(settings.issue_budget, usual_ttl(&record));
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
            next_look: sent,
            over_budget: false,
            renewals_denied: false,
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
                    Ok(stop) => break (stop.deadline_at(clock.now()), Some(stop.done)),
                    Err(_) => handle_gone = true,
                },
                // The last handle may be the one that shuts down: its word may have come since we looked.
                () = self.publisher.unread() => match stopped.try_recv() {
                    Ok(stop) => break (stop.deadline_at(clock.now()), Some(stop.done)),
                    Err(_) => break (None, None),
                },
                () = sleep_until(&*clock, act_at) => {
                    self.note_lateness(act_at.until(clock.now()));
                    match plan.map(|plan| plan.step) {
                        Some(Step::Renew) => self.renew().await,
                        Some(Step::Replace) => self.replace().await,
                        Some(Step::Look) | None => {}
                    }
                }
                Some(record) = farewells.recv() => {
                    self.let_go(record);
                    replan = false;
                }
                Some(rejection) = rejections.recv() => replan = self.rejected(rejection),
                // Ours may have stood still while the server's went on, as when a virtual machine is paused: ask.
                Ok(()) = jumps.changed() => replan = self.time_jumped(clock.now()),
                () = token_superseded(&self.record, &self.known) => {
                    debug!("the token above has a successor");
                    // With a token that has died its leases have gone: there is nothing to renew for draining.
                    self.known.renewable &= !self.token_has_died();
                    self.known.replace = Some((Reason::TokenSuperseded, clock.now()));
                    self.known.failure = None;
                }
                () = few_uses_left(&self.record, &self.known) => {
                    debug!("few uses of it are left");
                    self.known.replace = Some((Reason::UsedUp, clock.now()));
                    self.known.failure = None;
                }
                () = changed(&*clock, &self.provider, &self.record, &self.known) => {
                    debug!("the provider has another");
                    // Whatever was to become of the old one, and however slowly.
                    (self.known.replace, self.known.failure) = (Some((Reason::Changed, clock.now())), None);
                }
                () = sleep_until(&*clock, self.revocations.next_at()) => {
                    let bound = self.patience();
                    self.revocations.revoke_one(&self.provider, &self.publisher, &*clock, bound).await;
                    replan = false;
                }
            }
        };
        let deadline = match (&done, deadline) {
            (Some(done), Some(deadline)) if !done.is_closed() => deadline,
            // Nobody waits any longer: for a request that was in flight until now, or because the last handle has gone.
            (Some(_), _) => clock.now() + self.settings.shutdown_bound,
            (None, _) => self.used.latest_end(clock.now() + self.settings.shutdown_bound),
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
        // What goes by plan, or follows its token, has a pace of its own.
        if let Some((reason, not_before)) = self.known.replace
            && costs_budget(reason)
        {
            let affordable = self.budget.next_at(now);
            if affordable > not_before.max(now) {
                self.known.replace = Some((reason, affordable));
                self.say_over_budget(now.until(affordable));
            }
        }
        schedule::next(now, &self.known, self.settings.drain_budget, self.jitter)
    }

    /// Returns whether to look early. A clock that somebody steps again and again must not make each step a request.
    fn time_jumped(&mut self, now: Moment) -> bool {
        let may_look = self.next_look <= now;
        if may_look {
            let ttl = self.known.granted.unwrap_or_default();
            self.next_look = now + (ttl / 20).max(SHORTEST_BETWEEN_LOOKS);
            self.known.look = true;
        }
        may_look
    }

    fn say_over_budget(&mut self, wait: Duration) {
        if std::mem::replace(&mut self.over_budget, true) {
            return;
        }
        let why = match self.record.lease().uses() {
            Some(_) => "does everything that needs it use it up (token_num_uses)?",
            None => "is it refused each time?",
        };
        let message = format!("{} was issued too often, and waits: {why}", self.publisher.name());
        let error = Error::new(ErrorKind::RateLimited, Party::Configuration, message);
        warn!(%error, ?wait, "the budget for issuing is used up");
        self.publisher.failed(self.record.generation(), error, wait);
    }

    /// A renewal has two fifths of the TTL in hand; what eats that is worth knowing before it is gone.
    fn note_lateness(&self, late: Duration) {
        self.publisher.acted_late(late);
        if late > WORTH_A_WORD {
            info!(?late, "acted late: the process stood still, or something blocks its runtime");
        }
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
        if truncated && self.known.look && self.known.failure.is_none() && self.is_the_end(sent + ttl) {
            // Asked before its time, max TTL says nothing about when to replace it.
            (self.known.look, self.known.verify) = (false, false);
            return self.publisher.emit(generation, EventKind::Renewed { ttl, truncated });
        }
        if !ttl.is_zero() {
            self.known.own_end = sent + ttl;
            self.publisher.extend(&self.record, self.known.own_end);
            (self.known.granted_at, self.known.granted) = (sent, Some(ttl));
        }
        self.renewals_denied = false;
        // An outage that ends, and a clock that jumps, put a whole fleet in step.
        self.known.in_step = self.known.failure.is_some() || self.known.look;
        (self.known.verify, self.known.look) = (false, false);
        self.look_at_token();
        self.known.capped = truncated && ends_with_its_token(&self.record, &self.known);
        let (due, waits_for_successor) = match self.known.replace {
            Some((Reason::Truncated, _)) => (true, false),
            Some(_) => (false, true),
            None => (true, false),
        };
        if truncated && !self.known.capped && due {
            let ttl = usual_ttl(&self.record).unwrap_or_default();
            let budget = schedule::drain_budget(self.settings.drain_budget, ttl);
            let end = self.known.usable_until();
            let at = schedule::replace_truncated_at(sent, end, budget, self.jitter);
            self.known.replace = Some((Reason::Truncated, at));
        }
        debug!(%generation, ?ttl, truncated, "renewed");
        self.publisher.emit(generation, EventKind::Renewed { ttl, truncated });
        if !waits_for_successor {
            self.known.failure = None;
            self.recovered();
        }
    }

    fn is_the_end(&self, end: Moment) -> bool {
        let known = self.known.own_end;
        known.until(end).max(end.until(known)) <= schedule::SAME_END
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
                self.budget.adapt(usual_ttl(&record));
                if is_only_read(&record) {
                    // Nothing was made for us, and what was refused is another matter: the next may be read at once.
                    self.rejections = Rejections::default();
                } else if reason.is_some_and(costs_budget) {
                    self.budget.spend(sent);
                }
                self.over_budget = false;
                self.issued_at = sent;
                let old = std::mem::replace(&mut self.record, record);
                let before = std::mem::replace(&mut self.known, known_of(&self.record, sent));
                if reason.is_none() && before.failure.is_some_and(|failure| failure.kind == ErrorKind::Denied)
                {
                    self.renewals_are_denied();
                }
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
                if matches!(
                    reason,
                    Some(
                        Reason::Truncated | Reason::UsedUp | Reason::Ended | Reason::Dead | Reason::Rejected
                    )
                ) {
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

    fn renewals_are_denied(&mut self) {
        if !std::mem::replace(&mut self.renewals_denied, true) {
            warn!(
                "not allowed to renew: from now on it is asked for once in each lease, which is replaced before its end"
            );
        }
    }

    fn failed(&mut self, error: &Error, step: Step) {
        let now = self.settings.clock.now();
        let orphaned = step == Step::Replace && error.may_have_been_carried_out();
        if orphaned {
            warn!(%error, "an issue was not answered: it may have left a lease that nobody knows of, until its token goes");
        }
        let known = &mut self.known;
        match (step, error.kind()) {
            (Step::Renew, ErrorKind::LeaseGone | ErrorKind::DeadToken) => {
                (known.replace, known.failure, known.verify) = (Some((Reason::Ended, now)), None, false);
            }
            // The question cannot be answered: that counts as a no.
            (Step::Renew, kind)
                if known.verify && (kind == ErrorKind::RenewalFailed || !kind.is_retryable()) =>
            {
                let at = match known.replace {
                    Some((Reason::Rejected, at)) => at,
                    _ => self.rejections.next_replacement(now, usual_ttl(&self.record)),
                };
                (known.replace, known.failure, known.verify) = (Some((Reason::Rejected, at)), None, false);
            }
            (Step::Renew, kind)
                if kind == ErrorKind::NotRenewable || (kind == ErrorKind::Denied && self.renewals_denied) =>
            {
                // A fact, not trouble: it is replaced before its end.
                debug!(%error, "it cannot be renewed");
                (known.renewable, known.failure) = (false, None);
                return self.recovered();
            }
            (_, kind) => {
                let count = known.failure.map_or(1, |before| before.count.saturating_add(1));
                let retry_after = error.retry_after();
                known.failure = Some(Failure { count, at: now, kind, retry_after, orphaned });
                if step == Step::Replace && known.poll.is_none() {
                    // Once it was given up to renew it, its renewal is not tried in turns with an issue.
                    known.replace.get_or_insert((Reason::Ended, now));
                }
            }
        }
        let dead = self.known.replace.is_some_and(|(reason, _)| reason == Reason::Dead);
        // A token that only looks dead, as one that may not look itself up does, has its successor at once.
        if dead && step == Step::Replace && !error.is_retryable() {
            self.publisher.presume_dead(&self.record);
        }
        if step == Step::Renew && error.kind() == ErrorKind::LeaseGone {
            self.known.own_end = self.known.own_end.min(now);
            self.publisher.extend(&self.record, self.known.own_end);
        }
        let retry_in = self.plan(now).map_or_else(Default::default, |plan| plan.delay);
        let left = now.until(self.known.usable_until());
        let generation = self.record.generation();
        if left < self.settings.drain_budget.min(usual_ttl(&self.record).unwrap_or_default() / 2) {
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

    fn token_has_died(&self) -> bool {
        self.known.failure.is_some_and(|failure| failure.kind == ErrorKind::DeadToken)
            || self.known.replace.is_some_and(|(reason, _)| matches!(reason, Reason::Ended | Reason::Dead))
    }

    /// Returns whether that changes anything.
    fn rejected(&mut self, Rejection { generation, cause }: Rejection) -> bool {
        if generation != self.record.generation() || self.known.verify {
            return false;
        }
        match self.known.replace {
            None | Some((Reason::Truncated, _)) => {}
            Some((Reason::Rejected, at)) if at > self.settings.clock.now() => return self.ask_again(),
            Some(_) => return false,
        }
        let now = self.settings.clock.now();
        if cause == ErrorKind::DeadToken && now < self.issued_at + REPLICATION {
            // A standby may not have heard of it yet; whoever was refused tries again shortly.
            return false;
        }
        info!(%generation, %cause, "rejected by whoever uses it");
        self.publisher.emit(generation, EventKind::Rejected { cause });
        if self.known.failure.is_some_and(|failure| !failure.kind.is_retryable()) {
            // It was tried slowly for want of a reason to hurry; here is one.
            self.known.failure = None;
        }
        if self.rejections.should_verify(generation, cause) && self.known.renewable {
            self.known.verify = true;
        } else {
            let reason = if cause == ErrorKind::DeadToken { Reason::Dead } else { Reason::Rejected };
            // What is read costs nobody anything, and is as good as its next change, which nobody announces.
            let ttl = usual_ttl(&self.record).filter(|_| !is_only_read(&self.record));
            let at = self.rejections.next_replacement(now, ttl);
            self.known.replace = Some((reason, at));
        }
        true
    }

    /// A bad pool's replacement waits for its turn, and the secret may really die meanwhile: to a good one that makes a
    /// difference. Returns whether it is time to ask.
    fn ask_again(&mut self) -> bool {
        let now = self.settings.clock.now();
        let may_ask = self.known.renewable && self.next_look <= now;
        if may_ask {
            self.next_look = now + SHORTEST_BETWEEN_LOOKS;
            self.known.verify = true;
        }
        may_ask
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

/// However often the provider says so, requests keep their distance.
async fn changed<P: Provider>(clock: &dyn Clock, provider: &P, record: &Record<P::Secret>, known: &Known) {
    if known.failure.is_none() && known.replace.is_some_and(|(reason, _)| reason == Reason::Changed) {
        // It is about to be asked.
        pending().await
    }
    sleep_until(clock, known.last_request + SHORTEST_BETWEEN_CHANGES).await;
    provider.changed(record).await
}

async fn few_uses_left<S>(record: &Record<S>, known: &Known) {
    match record.lease().uses() {
        // Where the provider has no other, asking for it would only be another use.
        Some(uses) if known.replace.is_none() && known.unchanged == 0 => uses.until_few().await,
        _ => pending().await,
    }
}

/// What a grant is when nobody cut it short: the first may have been, on purpose.
fn usual_ttl<S>(record: &Record<S>) -> Option<Duration> {
    record.lease().ttl().map(|ttl| ttl.max(record.lease().increment()))
}

/// Whether it is not made for us, but read: what somebody else replaces, such as the password of a static role.
fn is_only_read<S>(record: &Record<S>) -> bool {
    record.version().is_some() && record.lease().id().is_empty() && !record.lease().renewable()
}

/// Whether it is replaced for a reason that a pool, or a server, may give again and again.
fn costs_budget(reason: Reason) -> bool {
    matches!(reason, Reason::Rejected | Reason::Dead | Reason::Ended | Reason::UsedUp)
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
        poll: record.lease().poll(),
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
const SHORTEST_BETWEEN_CHANGES: Duration = Duration::from_secs(1);
const SHORTEST_BETWEEN_LOOKS: Duration = Duration::from_secs(30);
/// A step this late is no matter of scheduling.
const WORTH_A_WORD: Duration = Duration::from_secs(1);
/// How long a token may be unknown to a node that did not issue it.
const REPLICATION: Duration = Duration::from_secs(1);
/// The share of a shut-down's time in which users may still go by themselves; the rest is for revoking.
const SHARE_OF_USERS: f64 = 0.7;
