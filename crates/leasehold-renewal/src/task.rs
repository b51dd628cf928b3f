//! The task behind a keeper: the shell round the [machine](crate::machine). It tells the machine the
//! events, and carries out the machine's commands. It decides nothing, and waits for no request where it would stop listening.

mod commands;

use std::{future::pending, pin::Pin, sync::Arc};

use leasehold_core::{
    Current, Error, Generation, Grant, Provider, Record, Renewed, Result, Revoked, Uses,
    clock::{Moment, sleep_until},
    publish::{self, Channel, Publisher},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Builder,
    budget::Budget,
    facts,
    guarded::Guarded,
    machine::{Event, Id, Listens, Machine, Pace, Rules, Seen},
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
    let Channel { publisher, farewells, rejections, current } =
        publish::channel(&provider.name(), settings.clock.clone());
    let shell = Shell {
        provider: Arc::new(Guarded(provider)),
        publisher,
        records: Vec::new(),
        granted: None,
        failure: None,
        issuing: None,
        renewing: None,
        revoking: None,
        waiting: Some((tell, current)),
        done: None,
        settings,
    };
    tokio::spawn(shell.run(farewells, rejections, stopped));
    started
}

/// The caller who waits for the keeper to start, and the handle that it gets.
type Waiting<S> = (oneshot::Sender<Result<Current<S>>>, Current<S>);

/// A request in flight.
type Flight<T> = Option<(Id, Pin<Box<dyn Future<Output = Result<T>> + Send>>)>;

struct Shell<P: Provider> {
    settings: Builder,
    provider: Arc<Guarded<P>>,
    publisher: Publisher<P::Secret>,
    /// The facts of the current value, last, and of those before it; never an `Issued`, or the keeper would be a user of
    /// its own secret.
    records: Vec<Arc<Record<P::Secret>>>,
    /// The grant that the present step is about.
    granted: Option<Grant<P::Secret>>,
    /// The last failure.
    failure: Option<Error>,
    issuing: Flight<Grant<P::Secret>>,
    renewing: Flight<Renewed>,
    revoking: Flight<Revoked>,
    /// The caller who waits for the keeper to start.
    waiting: Option<Waiting<P::Secret>>,
    done: Option<oneshot::Sender<Result<()>>>,
}

impl<P: Provider + 'static> Shell<P> {
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` keeps each argument twice: as it came, and as what the body changes"
    )]
    fn run(
        mut self,
        mut farewells: mpsc::UnboundedReceiver<Arc<Record<P::Secret>>>,
        mut rejections: mpsc::Receiver<publish::Rejection>,
        mut stopped: oneshot::Receiver<Stop>,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let clock = Arc::clone(&self.settings.clock);
            let mut jumps = clock.jumps();
            let rules = Rules {
                drain_budget: self.settings.drain_budget,
                shutdown_bound: self.settings.shutdown_bound,
                start: self.settings.start_policy,
            };
            let pace = Pace::new(Budget::new(self.settings.issue_budget, None), clock.now());
            let (mut machine, commands) = Machine::start(rules, pace, &self.look(&[]));
            self.carry_out(commands);
            let (mut handle, mut readers) = (true, true);
            while !machine.is_over() {
                let (listens, wake) = (machine.listens(), machine.next_wake());
                let record = self.records.last();
                let event = tokio::select! {
                    biased;
                    stop = &mut stopped, if handle => { handle = false; self.asked_to_stop(stop.ok()) }
                    // The last handle may be the one that shuts down: its word may have come since we looked.
                    () = self.publisher.unread(), if readers => {
                        readers = false;
                        let stop = if handle { stopped.try_recv().ok() } else { None };
                        handle &= stop.is_none();
                        if stop.is_some() { self.asked_to_stop(stop) } else { Event::Unread }
                    }
                    () = waiter_gone(&mut self.waiting) => { self.waiting = None; Event::WaiterGone }
                    (id, answer) = landed(&mut self.issuing) => {
                        self.issuing = None;
                        answer.and_then(|grant| self.not_in_force(grant)).map_or_else(|error| fail(&mut self.failure, id, error), |grant| {
                            let same = self.records.last().is_some_and(|last| Publisher::would_be_same(last, &grant));
                            let granted = facts::granted(&grant, same);
                            self.granted = Some(grant);
                            Event::Granted { id, grant: granted }
                        })
                    }
                    (id, answer) = landed(&mut self.renewing) => {
                        self.renewing = None;
                        answer.map_or_else(|error| fail(&mut self.failure, id, error), |Renewed { ttl }| Event::Renewed { id, ttl })
                    }
                    (id, answer) = landed(&mut self.revoking) => {
                        self.revoking = None;
                        answer.map_or_else(|error| fail(&mut self.failure, id, error), |revoked| {
                            Event::Revoked { id, ours: revoked == Revoked::Done }
                        })
                    }
                    () = sleep_until(&*clock, wake) => Event::Wake,
                    Some(record) = farewells.recv() => Event::LetGo(record.generation()),
                    Some(rejection) = rejections.recv() => {
                        Event::Rejected { generation: rejection.generation, cause: rejection.cause }
                    }
                    Ok(()) = jumps.changed() => Event::TimeJumped,
                    () = shows_without_asking(record, listens) => Event::Wake,
                    () = changed(&*clock, &*self.provider, record, listens.changed_from) => Event::Changed,
                };
                let watched: Vec<Generation> = machine.watched().collect();
                let commands = machine.step(&self.look(&watched), event);
                self.carry_out(commands);
            }
        }
    }

    /// The machine's view of this moment.
    fn look(&self, watched: &[Generation]) -> Seen {
        let record = self.records.last();
        let old = self.records.iter().filter(|record| watched.contains(&record.generation()));
        Seen {
            now: self.settings.clock.now(),
            draw: fastrand::f64(),
            token: record.and_then(|record| record.parent()).map(|token| facts::token(token)),
            few_uses: record.and_then(|record| record.lease().uses()).is_some_and(Uses::are_few),
            old_tokens: old
                .filter_map(|record| Some((record.generation(), record.parent()?.granted_until())))
                .collect(),
        }
    }

    fn asked_to_stop(&mut self, stop: Option<Stop>) -> Event {
        let Some(Stop { deadline, done }) = stop else { return Event::Wake };
        // A caller who does not wait any longer leaves the keeper the time that it usually has.
        let deadline = if done.is_closed() {
            self.settings.clock.now() + self.settings.shutdown_bound
        } else {
            deadline
        };
        self.done = Some(done);
        Event::Stop { deadline }
    }
}

fn fail(last: &mut Option<Error>, id: Id, error: Error) -> Event {
    let failure = facts::failure(&error);
    *last = Some(error);
    Event::Failed { id, failure }
}

/// The answer to a request in flight.
async fn landed<T>(flight: &mut Flight<T>) -> (Id, Result<T>) {
    match flight {
        Some((id, answer)) => (*id, answer.as_mut().await),
        None => pending().await,
    }
}

async fn waiter_gone<S>(waiting: &mut Option<Waiting<S>>) {
    match waiting {
        Some((tell, _)) => tell.closed().await,
        None => pending().await,
    }
}

/// Waits for a fact that the next look at the record shows: a successor of its token, or few uses.
async fn shows_without_asking<S>(record: Option<&Arc<Record<S>>>, listens: Listens) {
    let successor = async {
        match record.and_then(|record| record.parent()).filter(|_| listens.successor) {
            Some(token) => token.superseded().await,
            None => pending().await,
        }
    };
    let few_uses = async {
        match record.and_then(|record| record.lease().uses()).filter(|_| listens.few_uses) {
            Some(uses) => uses.until_few().await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = successor => {}
        () = few_uses => {}
    }
}

async fn changed<P: Provider>(
    clock: &dyn leasehold_core::clock::Clock,
    provider: &P,
    record: Option<&Arc<Record<P::Secret>>>,
    from: Moment,
) {
    sleep_until(clock, from).await;
    match record {
        Some(record) => provider.changed(record).await,
        None => pending().await,
    }
}
