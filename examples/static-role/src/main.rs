//! A pool on a static role: the user exists already, and Vault replaces its password. Open sessions go on; new ones are
//! opened with the password of the day. It queries ten times a second, and says when there is another password, and when
//! a query fails.
//!
//! ```console
//! $ sh examples/static-role/vault-setup.sh
//! $ VAULT_ADDR=… VAULT_TOKEN=… DATABASE_URL=postgres://host/database cargo run --package static-role
//! ```

use std::{env, sync::Arc, time::Duration};

use anyhow::Context as _;
use leasehold_core::EventKind;
use leasehold_renewal::Keeper;
use leasehold_secrets::StaticRole;
use tokio::{signal::ctrl_c, time::interval};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example")]
async fn main() -> anyhow::Result<()> {
    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let token = Keeper::start(leasehold_auth::detect(vault.clone(), "reporter")?).await?;
    let login = Keeper::start(StaticRole::new(vault, token.current(), "reporter")).await?;
    let database = env::var("DATABASE_URL").context("DATABASE_URL is not set")?; // no user, no password
    let pool = leasehold_sqlx::Postgres::from_url(&database)?.connect(login.current()).await?;

    let (mut events, mut ticks) = (login.events(), interval(Duration::from_millis(100)));
    let (mut queries, mut failed) = (0_u64, 0_u64);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(event) = events.recv() => {
                // New sessions are opened with it from now on; none was closed.
                if matches!(event.kind, EventKind::Adopted) {
                    println!("password {} of {}", event.generation, login.current().get()?.secret().username());
                }
                continue;
            }
            stopped = ctrl_c() => break stopped?,
        }
        queries += 1;
        if let Err(error) = sqlx::query("SELECT count(*) FROM measurements").execute(&pool).await {
            failed += 1;
            println!("a query failed: {error}");
        }
    }
    println!("{failed} of {queries} queries failed");

    pool.close().await;
    login.shutdown().await?;
    token.shutdown().await?;
    Ok(())
}
