//! The pools that are compared, three ways each. Another pool is a file beside these, and a line in [`ADAPTERS`].

mod bb8;
mod deadpool_postgres;
mod diesel;
mod newest;
mod sqlx;

use std::sync::Arc;

use anyhow::Result;
use leasehold_core::{Credentials, Current, async_trait, in_place::Settings};

use crate::server::Place;

/// Every pool that is measured.
pub(crate) const ADAPTERS: [&dyn Adapter; 4] =
    [&sqlx::Sqlx, &deadpool_postgres::DeadpoolPostgres, &bb8::Bb8, &diesel::Diesel];

/// Builds pools of one kind. Whatever can be set is left at the pool's own defaults, but for its size and what
/// [`Tuning`] says.
#[async_trait]
pub(crate) trait Adapter: Send + Sync {
    /// What it is called in reports.
    fn name(&self) -> &'static str;

    /// Builds a pool of `size` connections at most; the first are `current`'s.
    async fn build(
        &self,
        way: Way,
        place: &Place,
        tuning: Tuning,
        current: Current<Credentials>,
    ) -> Result<Arc<dyn Pool>>;
}

/// How a pool comes to new credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Never: the genuine pool.
    Plain,
    /// The genuine pool, whose hook refuses the connections of old credentials at check-out: what a task does that one
    /// writes by hand.
    CloseAtCheckOut,
    /// Ours.
    Leasehold,
}

/// What is not left to the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) size: u32,
    /// Whether a pool that asks the server at each check-out, unless told otherwise, does so.
    pub(crate) ask_at_check_out: bool,
    /// Whether ours asks the database now and then if it still knows its user.
    pub(crate) ask_now_and_then: bool,
}

impl Tuning {
    /// How ours is rotated, where that is not its own default.
    fn settings(self) -> Settings {
        let settings = Settings::default();
        Settings { ask_every: settings.ask_every.filter(|_| self.ask_now_and_then), ..settings }
    }
}

/// A pool that is measured.
#[async_trait]
pub(crate) trait Pool: Send + Sync {
    /// Checks a connection out, has it read a table, and returns it.
    async fn query(&self) -> Result<()>;

    /// Checks a connection out and returns it, so many times, one after the other; at the end all of them are back.
    async fn check_out(&self, times: u32) -> Result<()>;

    /// Opens as many connections as there may be, and has each run the query once.
    async fn fill(&self) -> Result<()>;

    async fn close(&self);
}

/// What a user who was dropped could not read.
const READ: &str = "SELECT count(*) FROM measurements";
