//! `sqlx::AnyPool`, with PostgreSQL.

use leasehold_testbed::conformance_tests;
use sqlx::any::AnyConnectOptions;

conformance_tests!(Sqlx);

adapter!(sqlx::Any, Postgres, "sqlx's Any with PostgreSQL", |target: &Target| {
    sqlx::any::install_default_drivers();
    let url = format!("postgres://{}:{}/{}", target.host, target.port, target.database);
    url.parse::<AnyConnectOptions>().map_err(shown)
});
