//! The suites, in one binary, so that they are linked once and run in parallel. Each test starts its own servers.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod bad_input;
mod causes;
mod cluster;
mod login_lapses;
mod logins;
mod main_job;
mod mariadb;
mod nodes;
mod operator;
mod outage;
mod policy;
mod requests;
mod secrets;
mod static_role;
mod tokens;
