//! Carries out the machine's commands. Nothing here waits: a request becomes a future that the task polls.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Error, ErrorKind, Generation, Grant, Party, Provider, Record, Result, Revoked,
    clock::within,
    publish::{Published, Publisher},
};
use tracing::info_span;

use super::Shell;
use crate::{
    guarded::Guarded,
    log,
    machine::{Command, Outcome},
};

/// The parts of a request about one generation.
type About<P> = (Arc<Guarded<P>>, Arc<Record<<P as Provider>::Secret>>);

impl<P: Provider + 'static> Shell<P> {
    pub(super) fn carry_out(&mut self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        // A subscriber keeps the contents of an open span, so a span is as short as a step.
        let _step = info_span!("keeper", secret = %self.publisher.name()).entered();
        for command in commands {
            self.do_as_told(command);
        }
    }

    fn do_as_told(&mut self, command: Command) {
        let clock = Arc::clone(&self.clock);
        match command {
            Command::Issue(id) => {
                let provider = Arc::clone(&self.provider);
                self.issuing = Some((id, Box::pin(async move { provider.issue().await })));
            }
            Command::Renew { id, generation, bound } => {
                let Some((provider, record)) = self.about(generation) else { return };
                let answer = async move {
                    within(&*clock, bound, provider.renew(&record))
                        .await
                        .unwrap_or_else(|| Err(no_answer(bound)))
                };
                self.renewing = Some((id, Box::pin(answer)));
            }
            Command::Revoke { id, generation, bound } => {
                let Some((provider, record)) = self.about(generation) else { return };
                let spared = self.publisher.would_end_what_is_in_force(&record);
                if spared {
                    log::left_in_force(&record);
                }
                let answer = async move {
                    if spared {
                        return Ok(Revoked::NotOurs);
                    }
                    within(&*clock, bound, provider.revoke(&record))
                        .await
                        .unwrap_or_else(|| Err(no_answer(bound)))
                };
                self.revoking = Some((id, Box::pin(answer)));
            }
            Command::Abandon(id) => {
                self.renewing.take_if(|flight| flight.0 == id);
                self.revoking.take_if(|flight| flight.0 == id);
            }
            Command::Publish { sent, .. } | Command::Extend { sent } => {
                let Some(grant) = self.granted.take() else { return };
                if let Published::New(record) = self.publisher.publish(*grant, sent) {
                    self.records.push(record);
                }
            }
            Command::SetAside { sent, .. } => {
                let Some(grant) = self.granted.take() else { return };
                self.records.push(self.publisher.set_aside(*grant, sent));
            }
            Command::MoveEnd { generation, end } => {
                self.record(generation).inspect(|record| self.publisher.extend(record, end));
            }
            Command::PresumeDead(generation) => {
                self.record(generation).inspect(|record| self.publisher.presume_dead(record));
            }
            Command::Close => self.publisher.close(),
            Command::Forget(generation) => self.records.retain(|record| record.generation() != generation),
            Command::Tell(generation, told) => self.publisher.emit(generation, told.into()),
            Command::Failed { generation, retry_in, grave } => {
                let Some(error) = self.failure.clone() else { return };
                log::failed(generation, &error, retry_in, grave);
                self.publisher.failed(generation, error, retry_in);
            }
            Command::OverBudget { generation, wait } => {
                let uses = self.record(generation).is_some_and(|record| record.lease().uses().is_some());
                self.publisher.failed(generation, log::over_budget(self.publisher.name(), uses, wait), wait);
            }
            Command::Recovered(generation) => {
                if self.publisher.succeeded(generation) {
                    log::recovered();
                }
            }
            Command::Planned(due) => self.publisher.planned(due),
            Command::ActedLate(late) => {
                self.publisher.acted_late(late);
                log::late(late);
            }
            Command::Say(line) => {
                log::say(line, self.failure.as_ref(), self.records.last().map(|record| &**record))
            }
            Command::Started => {
                if let Some(waiting) = self.waiting.take() {
                    let (tell, current) = *waiting;
                    let _ = tell.send(Ok(current));
                }
            }
            Command::NotStarted => {
                if let Some(waiting) = self.waiting.take() {
                    let _ = waiting.0.send(Err(self.failure.clone().unwrap_or_else(log::no_first_answer)));
                }
            }
            Command::Ended(outcome) => self.ended(outcome),
        }
    }

    /// A cache between us and the server answers with the lease that it has: that is no successor.
    pub(super) fn not_in_force(&self, grant: Grant<P::Secret>) -> Result<Grant<P::Secret>> {
        if self.records.last().is_some_and(|last| Publisher::is_in_force(last, &grant)) {
            Err(log::no_successor(self.publisher.name()))
        } else {
            Ok(grant)
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        let ended = log::outcome(outcome, self.publisher.name(), self.failure.as_ref());
        match self.done.take() {
            Some(done) => drop(done.send(ended)),
            None => log::ended_by_itself(ended),
        }
    }

    fn record(&self, generation: Generation) -> Option<&Arc<Record<P::Secret>>> {
        self.records.iter().find(|record| record.generation() == generation)
    }

    fn about(&self, generation: Generation) -> Option<About<P>> {
        Some((Arc::clone(&self.provider), Arc::clone(self.record(generation)?)))
    }
}

fn no_answer(bound: Duration) -> Error {
    Error::new(ErrorKind::Unreachable, Party::Vault, format!("no answer within {bound:?}")).unanswered()
}
