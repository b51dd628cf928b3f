//! The migrations of the service, compiled in.

use sqlx::migrate::Migrator;

/// What is in the folder `migrations`.
///
/// They are run on one connection, which is in use for as long as that takes: a rotation leaves it alone until it is given
/// back. What takes longer than the drain budget of the keeper (`Builder::drain_budget`) needs a longer one, or a lease
/// that is.
pub static MIGRATIONS: Migrator = sqlx::migrate!();
