//! The task behind a keeper: the shell round the [machine](crate::machine). It tells the machine the
//! events, and carries out the machine's commands. It decides nothing, and waits for no request where it would stop listening.

mod commands;

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use leasehold_core::{
    Current, Error, Generation, Grant, Provider, Record, Renewed, Result, Revoked, Uses,
    clock::{Clock, Moment, nap},
    publish::{self, Channel, Mail, Publisher, Rejection},
};
use tokio::sync::oneshot;

use crate::{
    Builder,
    budget::Budget,
    facts,
    guarded::Guarded,
    machine::{Event, Id, Machine, Pace, Rules, Seen},
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
        publish::channel(&provider.name(), Arc::clone(&settings.clock));
    let Builder { clock, drain_budget, shutdown_bound, start_policy: start, issue_budget } = settings;
    let rules = Rules { drain_budget, shutdown_bound, start };
    let pace = Pace::new(Budget::new(issue_budget, None), clock.now());
    let mut shell = Shell {
        provider: Arc::new(Guarded(provider)),
        publisher,
        records: Vec::new(),
        granted: None,
        failure: None,
        issuing: None,
        renewing: None,
        revoking: None,
        waiting: Some(Box::new((tell, current))),
        done: None,
        clock,
        shutdown_bound,
    };
    let (machine, commands) = Machine::start(rules, pace, &shell.look(&[]));
    shell.carry_out(commands);
    tokio::spawn(shell.run(machine, farewells, rejections, stopped));
    started
}

/// The caller who waits for the keeper to start, and the handle that it gets.
type Waiting<S> = (oneshot::Sender<Result<Current<S>>>, Current<S>);

/// A request in flight.
type Flight<T> = Option<(Id, Pin<Box<dyn Future<Output = Result<T>> + Send>>)>;

struct Shell<P: Provider> {
    clock: Arc<dyn Clock>,
    shutdown_bound: Duration,
    provider: Arc<Guarded<P>>,
    publisher: Publisher<P::Secret>,
    /// The facts of the current value, last, and of those before it; never an `Issued`, or the keeper would be a user of
    /// its own secret.
    records: Vec<Arc<Record<P::Secret>>>,
    /// The grant that the present step is about.
    granted: Option<Box<Grant<P::Secret>>>,
    /// The last failure.
    failure: Option<Error>,
    issuing: Flight<Grant<P::Secret>>,
    renewing: Flight<Renewed>,
    revoking: Flight<Revoked>,
    /// The caller who waits for the keeper to start.
    waiting: Option<Box<Waiting<P::Secret>>>,
    done: Option<oneshot::Sender<Result<()>>>,
}

impl<P: Provider + 'static> Shell<P> {
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` keeps each argument twice: as it came, and as what the body changes"
    )]
    fn run(
        mut self,
        mut machine: Machine,
        mut farewells: Mail<Arc<Record<P::Secret>>>,
        mut rejections: Mail<Rejection>,
        mut stopped: oneshot::Receiver<Stop>,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let mut jumps = self.clock.jumps();
            let (mut handle, mut readers) = (true, true);
            while !machine.is_over() {
                let listens = machine.listens();
                // One timer for both moments: a wake that comes before the machine's own changes nothing.
                let hears_changes = listens.changed_from <= self.clock.now();
                let wake =
                    machine.next_wake().min(if hears_changes { Moment::NEVER } else { listens.changed_from });
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
                            self.granted = Some(Box::new(grant));
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
                    () = nap(&*self.clock, wake) => Event::Wake,
                    record = farewells.recv() => Event::LetGo(record.generation()),
                    rejection = rejections.recv() => {
                        Event::Rejected { generation: rejection.generation, cause: rejection.cause }
                    }
                    Ok(()) = jumps.changed() => Event::TimeJumped,
                    () = token_superseded(record), if listens.successor => Event::Wake,
                    () = few_uses_left(record), if listens.few_uses => Event::Wake,
                    () = changed(&*self.provider, record), if hears_changes => Event::Changed,
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
            now: self.clock.now(),
            draw: self.clock.draw(),
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
        let deadline = if done.is_closed() { self.clock.now() + self.shutdown_bound } else { deadline };
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
fn landed<T>(flight: &mut Flight<T>) -> impl Future<Output = (Id, Result<T>)> {
    poll_fn(|context| match flight {
        Some((id, answer)) => answer.as_mut().poll(context).map(|answer| (*id, answer)),
        None => Poll::Pending,
    })
}

fn waiter_gone<S>(waiting: &mut Option<Box<Waiting<S>>>) -> impl Future<Output = ()> {
    poll_fn(|context| match waiting {
        Some(waiting) => waiting.0.poll_closed(context),
        None => Poll::Pending,
    })
}

/// Waits until the token above has a successor, which the next look at the record shows.
async fn token_superseded<S>(record: Option<&Arc<Record<S>>>) {
    match record.and_then(|record| record.parent()) {
        Some(token) => token.superseded().await,
        None => pending().await,
    }
}

/// Waits until few uses of a token are left, which the next look at its record shows.
async fn few_uses_left<S>(record: Option<&Arc<Record<S>>>) {
    match record.and_then(|record| record.lease().uses()) {
        // In a box, because few tokens have limited uses, and every keeper would keep room for this.
        Some(uses) => Box::pin(uses.until_few()).await,
        None => pending().await,
    }
}

async fn changed<P: Provider>(provider: &P, record: Option<&Arc<Record<P::Secret>>>) {
    match record {
        Some(record) => provider.changed(record).await,
        None => pending().await,
    }
}
