//! `sqlx::PgPool` passes the conformance suite.

use std::{fmt::Display, time::Duration};

use leasehold_core::{Credentials, Current, async_trait};
use leasehold_sqlx::Postgres;
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Connection, Pool, Target},
    conformance_tests,
};
use sqlx::{PgPool, pool::PoolConnection, postgres::PgConnectOptions};

conformance_tests!(Sqlx);

struct Sqlx;

#[async_trait]
impl Adapter for Sqlx {
    fn name(&self) -> &'static str {
        "sqlx"
    }

    fn abilities(&self) -> Abilities {
        // One while the successor is proved, and the canary; sqlx itself connects in the place it refused.
        Abilities {
            spare_sessions: 2,
            canary: true,
            short: 1,
            notices_within: Duration::from_secs(4),
            ..Abilities::default()
        }
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&target.host)
            .port(target.port)
            .database(&target.database);
        let size = u32::try_from(size).map_err(shown)?;
        let pool = Postgres::new(options).max_connections(size).connect(current).await.map_err(shown)?;
        Ok(Box::new(UnderTest(pool)))
    }
}

struct UnderTest(PgPool);

#[async_trait]
impl Pool for UnderTest {
    async fn acquire(&self) -> Result<Box<dyn Connection>, String> {
        Ok(Box::new(Borrowed(self.0.acquire().await.map_err(shown)?)))
    }

    async fn close(&self) {
        self.0.close().await;
    }

    fn debug(&self) -> String {
        format!("{:?}", self.0)
    }
}

struct Borrowed(PoolConnection<sqlx::Postgres>);

#[async_trait]
impl Connection for Borrowed {
    async fn query(&mut self, sql: &'static str) -> Result<String, String> {
        sqlx::query_scalar(sql).fetch_one(&mut *self.0).await.map_err(shown)
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}
