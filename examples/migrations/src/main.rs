//! Runs sqlx's migrations at the start, as a user that exists only for this process.
//!
//! **The trap:** what a dynamic user of PostgreSQL creates it owns, so the user cannot be dropped at the end of its lease:
//! revocations fail, again and again, and users pile up; nor can the next user alter the table. **The cure** is in
//! `vault-setup.sh`: a role `app_owner` that nobody logs in as, of which each dynamic user is a member and whose rights it
//! takes on at its log-in (`ALTER ROLE … SET role`). Tables then belong to `app_owner`. `session_user` stays the dynamic
//! name, in logs and in `pg_stat_activity`.
//!
//! ```console
//! $ psql --file examples/migrations/owner.sql    # as a superuser, once
//! $ sh examples/migrations/vault-setup.sh        # once
//! $ VAULT_ADDR=… VAULT_TOKEN=… DATABASE_URL=postgres://host/database cargo run --package migrations
//! ```

use std::{env, sync::Arc};

use anyhow::Context as _;
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use migrations::MIGRATIONS;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example")]
async fn main() -> anyhow::Result<()> {
    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let token = Keeper::start(leasehold_auth::detect(vault.clone(), "app")?).await?;
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), "app")).await?;
    let database = env::var("DATABASE_URL").context("DATABASE_URL is not set")?; // no user, no password
    let pool = leasehold_sqlx::Postgres::from_url(&database)?.connect(login.current()).await?;

    MIGRATIONS.run(&pool).await?;
    let (who, rows): (String, i64) =
        sqlx::query_as("SELECT session_user::text, count(*) FROM orders").fetch_one(&pool).await?;
    println!("{who} has migrated, and counts {rows} orders");

    pool.close().await;
    login.shutdown().await?;
    token.shutdown().await?;
    Ok(())
}
