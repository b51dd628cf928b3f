//! A pool of users that come and go, whose tables stay.
//!
//! What a dynamic PostgreSQL user creates it owns, and who owns something cannot be dropped: the lease's revocation fails, and
//! goes on failing. So the users are members of a role that owns and cannot log in, and `ALTER ROLE … SET role` makes each
//! session begin as that role (`vault-setup.sh`). `session_user` is still the dynamic name, which is what logs show and
//! what Leasehold asks for.
//!
//! What it costs: dropping such a user takes nothing from the sessions that it still has, which go on as the owner.
//! Closing them is what makes revocation real, and the pool does, with a borrowed one as soon as it comes back. Nor may
//! the user end its other sessions (`pg_terminate_backend`) unless it says `SET ROLE NONE` first.

use anyhow::{Context as _, Result};
use leasehold_core::{Credentials, Current};
use leasehold_sqlx::Postgres;
use sqlx::{PgPool, migrate::Migrator};

/// The files in `migrations/`. Cargo notices a new one if a build script says `cargo::rerun-if-changed=migrations`.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// Connects to `url`, which holds no credentials, and migrates its database before anybody gets the pool.
///
/// sqlx migrates on one connection, borrowed from begin to end, since its lock against a second instance, an advisory
/// one, belongs to that session. A rotation in the middle does not break it: nothing exchanges a connection that is
/// borrowed, the old lease is kept until it has come back, and where its max TTL is over before, the session goes on as
/// the owner.
///
/// # Errors
/// Whatever kept it from connecting or migrating. The pool is closed then.
pub async fn open(url: &str, login: Current<Credentials>) -> Result<PgPool> {
    let pool = Postgres::from_url(url)?.max_connections(4).connect(login).await?;
    match MIGRATIONS.run(&pool).await.context("migrating") {
        Ok(()) => Ok(pool),
        Err(error) => {
            pool.close().await;
            Err(error)
        }
    }
}
