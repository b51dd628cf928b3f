//! A service outside Kubernetes: whoever starts it hands it a role id, and a secret id in a wrapping token.
//!
//! The wrapping token is good for one use within a minute, so nothing that is worth stealing lies about: if somebody else
//! was faster, the service is refused, and says so.
//!
//! ```console
//! $ sh examples/approle/vault-setup.sh > approle.env
//! $ . ./approle.env; export VAULT_ROLE_ID; echo "$WRAPPED_SECRET_ID" > wrapped
//! $ VAULT_ADDR=… DATABASE_URL=postgres://host/database WRAPPED_SECRET_ID_FILE=wrapped cargo run --package approle
//! ```

use std::{env, sync::Arc};

use anyhow::Context as _;
use leasehold_auth::AppRole;
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example")]
async fn main() -> anyhow::Result<()> {
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let file = variable("WRAPPED_SECRET_ID_FILE")?;
    let wrapped = tokio::fs::read_to_string(&file).await.with_context(|| format!("reading {file}"))?;

    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let login = AppRole::new(vault.clone(), variable("VAULT_ROLE_ID")?).wrapped_secret_id(wrapped);
    let token = Keeper::start(login).await?;
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), "pipeline")).await?;
    let database = variable("DATABASE_URL")?; // no user, no password
    let pool = leasehold_sqlx::Postgres::from_url(&database)?.connect(login.current()).await?;

    let (who, rows): (String, i64) =
        sqlx::query_as("SELECT session_user::text, count(*) FROM measurements").fetch_one(&pool).await?;
    println!("{who} counts {rows} rows");

    pool.close().await;
    login.shutdown().await?;
    token.shutdown().await?;
    Ok(())
}
