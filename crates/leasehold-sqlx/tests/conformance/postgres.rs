//! `sqlx::PgPool`.

use leasehold_testbed::conformance_tests;
use sqlx::postgres::PgConnectOptions;

conformance_tests!(Sqlx);

adapter!(sqlx::Postgres, Postgres, "sqlx", |target: &Target| {
    let options = PgConnectOptions::new_without_pgpass().host(&target.host).port(target.port);
    Ok::<_, String>(options.database(&target.database))
});
