//! Migrations by a user that is about to be dropped: it creates tables, it goes, and the tables stay.
//!
//! ```console
//! $ psql -d app -f examples/migrations/owner.sql      # once, as a superuser
//! $ DATABASE_ADMIN_PASSWORD=… sh examples/migrations/vault-setup.sh
//! $ DATABASE_URL=postgres://postgres.default.svc/app cargo run --package migrations
//! ```
//!
//! `cargo test --package migrations` does all of it on servers of its own, and shows what happens without the owner.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use leasehold_core::{Credentials, Token, Vault};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;

#[tokio::main]
async fn main() -> Result<()> {
    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let token = Keeper::start(leasehold_auth::detect(vault.clone(), "migrations")?).await?;
    // Leaf first, and whatever happened: a migration that fails leaves no user behind.
    let ran = with_credentials(vault, &token).await;
    let ended = token.shutdown().await.context("the token was left to end by itself");
    ran.and(ended)
}

async fn with_credentials(vault: Arc<dyn Vault>, token: &Keeper<Token>) -> Result<()> {
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), "migrations")).await?;
    let ran = serve(&login).await;
    let ended = login.shutdown().await.context("the credentials were left to end by themselves");
    ran.and(ended)
}

#[expect(clippy::print_stdout, reason = "an example")]
async fn serve(login: &Keeper<Credentials>) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("set DATABASE_URL, without a user and a password")?;
    let pool = migrations::open(&url, login.current()).await?;
    // Here a service begins to listen; this one asks one question.
    let answer = sqlx::query_as(
        "SELECT session_user::text, tableowner::text, (SELECT count(*) FROM orders) FROM pg_tables WHERE tablename = 'orders'",
    );
    let answer = answer.fetch_one(&pool).await;
    pool.close().await;
    let (user, owner, rows): (String, String, i64) = answer?;
    println!("{user} counts {rows} orders, in a table of {owner}'s");
    Ok(())
}
