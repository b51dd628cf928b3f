//! The tutorials' pipeline on Kubernetes, with Vault and MySQL or MariaDB, and without a Secret, an agent or a restart.
//!
//! README.md walks through the set-up in a cluster: `database.sql`, `vault-setup.sh`, `manifests/`. In the pod it is
//!
//! ```console
//! $ VAULT_ADDR=http://vault.vault.svc:8200 VAULT_ROLE=pipeline VAULT_JWT_FILE=/var/run/secrets/vault/token \
//!     DATABASE_URL=mysql://mysql.default.svc/pipeline LISTEN=0.0.0.0:8080 kubernetes-mysql
//! ```
//!
//! `cargo test --package kubernetes-mysql` does all of it on servers of its own.

use std::{env, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use kubernetes_mysql::Pipeline;
use leasehold_core::{Credentials, Token, Vault};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use tokio::{net::TcpListener, signal};

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
        .init();
    let vault = Arc::new(leasehold_vault::Client::from_env()?);
    let token = Keeper::start(leasehold_auth::detect(vault.clone(), "pipeline")?).await?;
    // Leaf first, and whatever happened: the pool, the credentials, the token. What an early return skips would live
    // on until its TTL.
    let ran = with_credentials(vault, &token).await;
    let ended = token.shutdown().await.context("the token was left to end by itself");
    ran.and(ended)
}

async fn with_credentials(vault: Arc<dyn Vault>, token: &Keeper<Token>) -> Result<()> {
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), "pipeline")).await?;
    let ran = with_pool(&login).await;
    let ended = login.shutdown().await.context("the credentials were left to end by themselves");
    ran.and(ended)
}

async fn with_pool(login: &Keeper<Credentials>) -> Result<()> {
    let url = env::var("DATABASE_URL").context("set DATABASE_URL, without a user and a password")?;
    let pipeline = Pipeline::connect(&url, login.current(), MARGIN).await?;
    let served = serve(&pipeline).await;
    pipeline.pool.close().await;
    served
}

async fn serve(pipeline: &Pipeline) -> Result<()> {
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let mut terminated = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    axum::serve(listener, pipeline.router()).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// Three of the deployment's probes, and a little.
const MARGIN: Duration = Duration::from_secs(20);
