//! `sqlx::AnyPool`, with MariaDB: what depends on how it is asked, and on what it answers. The rest is as with `MySqlPool`.

use leasehold_testbed::conformance_tests;
use sqlx::any::AnyConnectOptions;

conformance_tests!(@each Sqlx,
    hand_over, revoked_by_an_operator, borrowed_across_the_switch, refused_credentials, no_room_for_another,
    a_limit_of_the_users_own, any_character_in_a_password, refused_handshakes, nothing_secret_is_printed);

adapter!(sqlx::Any, MariaDb, "sqlx's Any with MariaDB", |target: &Target| {
    sqlx::any::install_default_drivers();
    let url = format!("mysql://{}:{}/{}", target.host, target.port, target.database);
    url.parse::<AnyConnectOptions>().map_err(shown)
});
