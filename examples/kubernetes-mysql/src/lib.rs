//! The pipeline: a small web service over a MySQL pool whose credentials rotate.

use std::time::Duration;

use anyhow::Result;
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use leasehold_core::{Credentials, Current};
use leasehold_sqlx::MySql;
use serde_json::{Value, json};
use sqlx::MySqlPool;

/// What the service answers with.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The pool.
    pub pool: MySqlPool,
    login: Current<Credentials>,
    margin: Duration,
}

impl Pipeline {
    /// Connects to `url`, which holds no credentials; not ready from `margin` before their end, unless they have a
    /// successor.
    ///
    /// # Errors
    /// Whatever kept it from connecting.
    pub async fn connect(url: &str, login: Current<Credentials>, margin: Duration) -> Result<Self> {
        let pool = MySql::from_url(url)?.max_connections(8).connect(login.clone()).await?;
        Ok(Self { pool, login, margin })
    }

    /// Its endpoints: `/healthz`, `/readyz`, and `/builds`, which counts them.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/builds", get(builds))
            .route("/healthz", get(|| async { "alive" }))
            .route("/readyz", get(ready))
            .with_state(self.clone())
    }
}

async fn builds(State(service): State<Pipeline>) -> Result<Json<Value>, (StatusCode, String)> {
    let answer =
        sqlx::query_as("SELECT user(), (SELECT count(*) FROM builds)").fetch_one(&service.pool).await;
    let (user, builds): (String, i64) =
        answer.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(Json(json!({ "user": user, "builds": builds })))
}

/// An outage of Vault changes nothing until then, so requests go elsewhere before any fails, and no sooner.
async fn ready(State(service): State<Pipeline>) -> (StatusCode, &'static str) {
    if service.login.health().is_ready(service.margin) {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the credentials end, and have no successor")
    }
}
