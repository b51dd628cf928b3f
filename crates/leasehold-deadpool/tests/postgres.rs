//! `deadpool_postgres::Pool` passes the conformance suite.

use std::fmt::Display;

use deadpool_postgres::{Object, Pool as Deadpool};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_deadpool::postgres::Postgres;
use leasehold_testbed::{
    conformance::{Adapter, Connection, Pool, Target},
    conformance_tests,
};

conformance_tests!(DeadpoolPostgres);

struct DeadpoolPostgres;

#[async_trait]
impl Adapter for DeadpoolPostgres {
    fn name(&self) -> &'static str {
        "deadpool-postgres"
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let mut config = tokio_postgres::Config::new();
        config.host(&target.host).port(target.port).dbname(&target.database);
        let built = Postgres::new(config).pool(move |pool| pool.max_size(size)).connect(current).await;
        Ok(Box::new(UnderTest(built.map_err(shown)?)))
    }
}

struct UnderTest(Deadpool);

#[async_trait]
impl Pool for UnderTest {
    async fn acquire(&self) -> Result<Box<dyn Connection>, String> {
        Ok(Box::new(Borrowed(self.0.get().await.map_err(shown)?)))
    }

    async fn close(&self) {
        self.0.close();
    }

    fn debug(&self) -> String {
        format!("{:?}", self.0)
    }
}

struct Borrowed(Object);

#[async_trait]
impl Connection for Borrowed {
    async fn query(&mut self, sql: &'static str) -> Result<String, String> {
        let statement = self.0.prepare_cached(sql).await.map_err(shown)?;
        let row = self.0.query_one(&statement, &[]).await.map_err(shown)?;
        row.try_get(0).map_err(shown)
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}
