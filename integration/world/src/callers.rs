//! The users of a pool: each borrows a connection, runs a query, keeps the connection for a while, and gives it back.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use leasehold_core::clock::Moment;

use crate::{
    oracle::{Oracle, Promise, Trouble},
    plan::{self, What},
    pool::{Pool, Slot},
    sometimes::Sometimes,
    truth::{How, Refusal, Truth},
};

pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) pool: Pool,
    pub(crate) plan: plan::Pool,
    pub(crate) drain: Duration,
    /// How long a replacement may wait for its turn after a storm of rejections, if the plan has one.
    pub(crate) turn: Duration,
    pub(crate) truth: Arc<Truth>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) draws: Rng,
}

impl Caller {
    pub(crate) async fn run(mut self) {
        loop {
            let think = 2.0 * self.draws.f64() * self.plan.think_ms as f64;
            self.truth.time.pass(Duration::from_millis(1 + think as u64)).await;
            self.query().await;
        }
    }

    async fn query(&mut self) {
        let asked_at = self.truth.time.now();
        let slot = match self.pool.get().await {
            Ok(slot) => slot,
            Err(error) => return self.got_none(asked_at, &error),
        };
        self.oracle.count(|counts| counts.queries += 1);
        self.judge(&slot, asked_at);
        let hold = self.draws.u64(0..=self.plan.hold_ms);
        self.truth.time.pass(Duration::from_millis(hold)).await;
        while self.truth.now().is(|what| matches!(what, What::CallersHold)) {
            self.oracle.sometimes(Sometimes::HeldLong);
            self.truth.time.pass(self.drain.max(Duration::from_secs(1)) / 2).await;
        }
    }

    /// Runs the query, and judges its failure.
    fn judge(&self, slot: &Slot, asked_at: Moment) {
        let Some(connection) = slot.connection() else { return };
        let Err(refusal) = connection.query() else { return };
        let dead = self.truth.now().user(&connection.user).and_then(|user| user.dead);
        match (refusal, dead) {
            (Refusal::OutOfStep, _) => {
                let about = format_args!("{}: it read the answer to the question of another", self.name);
                self.oracle.violated(Promise::QueriesSucceed, about);
            }
            (Refusal::Credentials, Some((at, how))) => {
                self.user_was_dead(&connection.user, at, how, asked_at)
            }
            (refusal, _) => self.failed(asked_at, format_args!("{refusal:?}")),
        }
    }

    fn got_none(&self, asked_at: Moment, error: &leasehold_core::Error) {
        self.oracle.count(|counts| counts.queries += 1);
        self.failed(asked_at, format_args!("no connection: {error}"));
    }

    fn user_was_dead(&self, user: &str, at: Moment, how: How, asked_at: Moment) {
        let lived = self.truth.now().user(user).map_or(at, |user| user.lived_from);
        // A server that could be asked for a quarter of the life, or ten seconds, would have given a successor.
        let in_time = (lived.until(at) / 4).max(Duration::from_secs(10)) + self.drain;
        let is_excused = match how {
            How::ByUs => false,
            How::Expired => self.oracle.was_in_trouble(at.earlier(in_time)),
            How::NotRenewed => {
                // It is renewed while no successor is issued, and renewals that fail give way to issues a quarter before the end.
                let in_time = (lived.until(at) / 8).max(Duration::from_secs(10)) + self.drain;
                self.oracle.was_in(Trouble::Renewals, at.earlier(in_time))
            }
            How::ByOthers => {
                let notice = self
                    .plan
                    .ask_every_ms
                    .map_or(Duration::MAX, |ms| 2 * Duration::from_millis(ms) + NOTICED + self.turn);
                // The keeper asks the server first, and while that cannot be reached nothing follows from the pool's question.
                self.oracle.was_in_trouble(asked_at.earlier(LATE.max(notice))) || at + notice > asked_at
            }
        };
        self.oracle.count(|counts| counts.failed_otherwise += 1);
        if is_excused {
            self.oracle.sometimes(Sometimes::MeetsDeadUser);
        } else {
            let since = at.until(asked_at);
            let about = format_args!("{}: {user} has been dead for {since:?} ({how:?})", self.name);
            self.oracle.violated(Promise::QueriesSucceed, about);
        }
    }

    /// The credentials lived, as far as is known, and the query failed all the same.
    fn failed(&self, asked_at: Moment, why: std::fmt::Arguments<'_>) {
        if self.oracle.was_in_trouble(asked_at.earlier(LATE)) {
            self.oracle.count(|counts| counts.failed_otherwise += 1);
            return;
        }
        self.oracle.count(|counts| counts.failed_while_credentials_lived += 1);
        self.oracle.violated(Promise::QueriesSucceed, format_args!("{}: {why}", self.name));
    }
}

/// A question, a login and an issue, and their first repetitions.
const NOTICED: Duration = Duration::from_secs(30);
/// What trouble leaves behind is over by then: refused handshakes, cut sessions, waits between attempts.
const LATE: Duration = Duration::from_secs(60);
