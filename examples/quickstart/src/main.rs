//! Queries through a pool whose credentials rotate. `cargo testbed up` gives it servers.

use std::sync::Arc;

use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example")]
async fn main() -> anyhow::Result<()> {
    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let token = Keeper::start(leasehold_auth::detect(vault.clone(), "pipeline")?).await?;
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), "pipeline")).await?;
    let database = std::env::var("DATABASE_URL")?; // postgres://host/database: no user, no password
    let pool = leasehold_sqlx::Postgres::from_url(&database)?.connect(login.current()).await?; // a genuine sqlx::PgPool

    let (who, rows): (String, i64) =
        sqlx::query_as("SELECT session_user::text, count(*) FROM measurements").fetch_one(&pool).await?;
    println!("{who} counts {rows} rows");

    pool.close().await; // leaf first: the pool, its credentials, the token
    login.shutdown().await?;
    token.shutdown().await?;
    Ok(())
}
