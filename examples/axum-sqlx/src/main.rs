//! A small web service over a pool whose credentials rotate, with health and graceful shut-down.
//!
//! `cargo testbed up` gives it servers; then `curl localhost:8080/`, `/health/live` and `/health/ready`.

use std::{env, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use leasehold_core::{Credentials, Current, Health, Status, Token, Vault};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{net::TcpListener, signal};

#[derive(Clone)]
struct Service {
    pool: PgPool,
    login: Current<Credentials>,
}

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
    let database = env::var("DATABASE_URL").context("set DATABASE_URL, without a user and a password")?;
    let pool =
        leasehold_sqlx::Postgres::from_url(&database)?.max_connections(10).connect(login.current()).await?;
    let served = serve(Service { pool: pool.clone(), login: login.current() }).await;
    pool.close().await;
    served
}

async fn serve(service: Service) -> Result<()> {
    let app = Router::new()
        .route("/", get(count))
        .route("/health/live", get(|| async { "alive" }))
        .route("/health/ready", get(ready))
        .with_state(service);
    let listener =
        TcpListener::bind(env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned())).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    axum::serve(listener, app).with_graceful_shutdown(asked_to_stop()).await?;
    Ok(())
}

async fn count(State(service): State<Service>) -> Result<Json<Value>, (StatusCode, String)> {
    let row = sqlx::query_as("SELECT session_user::text, count(*) FROM measurements")
        .fetch_one(&service.pool)
        .await;
    let (user, rows): (String, i64) =
        row.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(Json(json!({ "user": user, "rows": rows })))
}

/// Not ready shortly before the credentials end without a successor, so that requests go elsewhere before any fails. An
/// outage of Vault is told, but does not take the service away.
async fn ready(State(service): State<Service>) -> (StatusCode, Json<Value>) {
    let health = service.login.health();
    let Health { status, usable_for, generation, .. } = health.clone();
    let seconds_left = usable_for.map(|left| left.as_secs());
    let degraded = match status {
        Status::Degraded { error, .. } => Some(error.to_string()),
        _ => None,
    };
    let code = if health.is_ready(MARGIN) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let generation = generation.map(leasehold_core::Generation::number);
    (code, Json(json!({ "generation": generation, "seconds_left": seconds_left, "degraded": degraded })))
}

const MARGIN: Duration = Duration::from_millis(500);

async fn asked_to_stop() {
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        () = terminated => {}
    }
}
