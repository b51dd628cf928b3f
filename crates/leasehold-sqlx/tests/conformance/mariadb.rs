//! `sqlx::MySqlPool`, with MariaDB.

use leasehold_testbed::conformance_tests;
use sqlx::mysql::MySqlConnectOptions;

conformance_tests!(Sqlx);

adapter!(sqlx::MySql, MariaDb, "sqlx with MariaDB", |target: &Target| {
    let options = MySqlConnectOptions::new().host(&target.host).port(target.port);
    Ok::<_, String>(options.database(&target.database))
});
