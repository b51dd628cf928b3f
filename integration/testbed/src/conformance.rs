//! What every pool's adapter promises, as a suite that anybody can run against theirs.
//!
//! Implement [`Adapter`] and [`Pool`] for your pool in a test, and let [`conformance_tests!`](crate::conformance_tests)
//! make a test of each case. Each starts its own PostgreSQL, and some a real OpenBao.

mod alone;
mod cases;
mod database;
mod keeper;
mod service;
mod stage;
mod static_login;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use leasehold_core::{Credentials, Current};

pub use cases::{
    a_limit_of_the_users_own, any_character_in_a_password, borrowed_across_the_switch, cancelled_acquires,
    closed_during_rotation, dropped_behind_its_back, hand_over, handshakes_on_nobodys_path, never_returned,
    no_room_for_another, nothing_secret_is_printed, refused_credentials, refused_handshakes,
    restarted_during_rotation, saturated, straddling_handshake,
};
pub use database::Server;
pub use keeper::Keeper;
pub use service::{
    restarted_without_its_users, revocation_statements, revoked_by_an_operator, under_openbao,
};
pub use stage::Target;
pub use static_login::StaticLogin;

/// Builds pools of one kind.
#[async_trait]
pub trait Adapter: Send + Sync + 'static {
    /// What it is called in reports.
    fn name(&self) -> &'static str;

    /// What its pools connect to.
    fn server(&self) -> Server {
        Server::default()
    }

    /// What the pool can do, where pools differ.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// Builds a pool of at most `size` connections to `target`, which follows `current`. A check-out should wait ten
    /// seconds at least before it fails.
    ///
    /// # Errors
    /// Whatever kept it from being built, in words.
    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String>;
}

/// A pool under test.
#[async_trait]
pub trait Pool: Send + Sync + 'static {
    /// Checks a connection out.
    ///
    /// # Errors
    /// What a caller would see.
    async fn acquire(&self) -> Result<Box<dyn Connection>, String>;

    /// Closes the pool and waits for what it can.
    async fn close(&self);

    /// Its `Debug`, and that of whatever else of the adapter a user can print.
    fn debug(&self) -> String;
}

/// A connection that was checked out. Dropping it gives it back.
#[async_trait]
pub trait Connection: Send {
    /// Runs a statement, or a [command](Server::Redis), which answers one text, and returns that.
    ///
    /// # Errors
    /// What a caller would see.
    async fn query(&mut self, statement: &'static str) -> Result<String, String>;
}

/// Where pools differ.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// Sessions on the server beyond the pool's maximum: one while a connection is exchanged, and a canary.
    pub spare_sessions: usize,
    /// Whether one of those is a canary, which yields its room before a rotation has to wait for any.
    pub canary: bool,
    /// By how many connections it may be smaller while one is exchanged.
    pub short: usize,
    /// Whether it opens all of its connections when it is built, so that a check-out never waits for a handshake.
    pub opens_all_at_once: bool,
    /// How soon a user that was dropped behind its back is noticed and replaced.
    pub notices_within: Duration,
    /// Whether connections by generation can be counted.
    pub counts: bool,
    /// Whether open connections log in again as the new user, borrowed ones included, instead of being exchanged.
    pub logs_in_again: bool,
    /// Whether sessions that are borrowed when their credentials end are ended by the server.
    pub terminates: bool,
    /// Sessions of a superseded user, among the spare ones, that are open only to count its others. MariaDB lets nobody
    /// else see them.
    pub counting_sessions: usize,
}

impl Default for Abilities {
    /// One session more, noticed within ten seconds, counted, and left.
    fn default() -> Self {
        Self {
            spare_sessions: 1,
            canary: false,
            short: 0,
            opens_all_at_once: false,
            notices_within: Duration::from_secs(10),
            counts: true,
            logs_in_again: false,
            terminates: false,
            counting_sessions: 0,
        }
    }
}

/// What was promised and not kept.
#[derive(Debug)]
pub struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl<E: Into<crate::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

/// Makes a test of each case of the [conformance suite](crate::conformance) for an [`Adapter`].
#[macro_export]
macro_rules! conformance_tests {
    ($adapter:expr) => {
        $crate::conformance_tests!(@each $adapter,
            hand_over, handshakes_on_nobodys_path, under_openbao, revocation_statements, revoked_by_an_operator,
            restarted_without_its_users, saturated,
            borrowed_across_the_switch, never_returned, cancelled_acquires, refused_credentials, restarted_during_rotation,
            no_room_for_another, a_limit_of_the_users_own, any_character_in_a_password,
            dropped_behind_its_back, refused_handshakes, straddling_handshake, nothing_secret_is_printed, closed_during_rotation);
    };
    (@each $adapter:expr, $($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() -> Result<(), $crate::conformance::Failure> {
                $crate::conformance::$case(&$adapter).await
            }
        )*
    };
}
