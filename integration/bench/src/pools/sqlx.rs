//! `sqlx::PgPool`.

use std::sync::Arc;

use anyhow::Result;
use leasehold_core::{Credentials, Current, ExposeSecret as _, async_trait};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use tokio::task::yield_now;

use super::{Adapter, Pool, READ, Tuning, Way, newest::Switch};
use crate::server::Place;

pub(super) struct Sqlx;

#[async_trait]
impl Adapter for Sqlx {
    fn name(&self) -> &'static str {
        "sqlx"
    }

    async fn build(
        &self,
        way: Way,
        place: &Place,
        tuning: Tuning,
        current: Current<Credentials>,
    ) -> Result<Arc<dyn Pool>> {
        let base = PgConnectOptions::new_without_pgpass()
            .host(&place.host)
            .port(place.port)
            .database(&place.database)
            .ssl_mode(PgSslMode::Disable);
        let options =
            PgPoolOptions::new().max_connections(tuning.size).test_before_acquire(tuning.ask_at_check_out);
        Ok(Arc::new(Measured(match way {
            Way::Plain => options.connect_with(with(&base, current.get()?.secret())).await?,
            Way::CloseAtCheckOut => close_at_check_out(base, options, current).await?,
            Way::Leasehold => {
                leasehold_sqlx::Postgres::new(base)
                    .pool_settings(options)
                    .canary_interval(tuning.settings().ask_every)
                    .connect(current)
                    .await?
            }
        })))
    }
}

async fn close_at_check_out(
    base: PgConnectOptions,
    options: PgPoolOptions,
    current: Current<Credentials>,
) -> Result<PgPool> {
    let switch = Switch::new();
    let asked = Arc::clone(&switch);
    let options = options.before_acquire(move |_, connection| {
        let stale = asked.is_stale(connection.age);
        Box::pin(async move { Ok(!stale) })
    });
    let pool = options.connect_with(with(&base, current.get()?.secret())).await?;
    let changed = pool.clone();
    switch.follow(current, move |credentials| changed.set_connect_options(with(&base, credentials)));
    Ok(pool)
}

fn with(base: &PgConnectOptions, credentials: &Credentials) -> PgConnectOptions {
    base.clone().username(credentials.username()).password(credentials.password().expose_secret())
}

struct Measured(PgPool);

#[async_trait]
impl Pool for Measured {
    async fn query(&self) -> Result<()> {
        sqlx::query_scalar::<_, i64>(READ).fetch_one(&self.0).await?;
        Ok(())
    }

    async fn check_out(&self, times: u32) -> Result<()> {
        for _ in 0..times {
            drop(self.0.acquire().await?);
        }
        // Each is returned by a task of its own.
        while self.0.num_idle() < usize::try_from(self.0.size())? {
            yield_now().await;
        }
        Ok(())
    }

    async fn fill(&self) -> Result<()> {
        let mut held = Vec::new();
        for _ in 0..self.0.options().get_max_connections() {
            let mut connection = self.0.acquire().await?;
            sqlx::query_scalar::<_, i64>(READ).fetch_one(&mut *connection).await?;
            held.push(connection);
        }
        Ok(())
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
