//! `deadpool_postgres::Pool` passes the conformance suite.

mod adapter;

use adapter::{Ask, UnderTest, shown};
use deadpool_postgres::Object;
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_deadpool::postgres::Postgres;
use leasehold_testbed::{
    conformance::{Adapter, Pool, Target},
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

#[async_trait]
impl Ask for Object {
    async fn ask(&mut self, sql: &'static str) -> Result<String, String> {
        let statement = self.prepare_cached(sql).await.map_err(shown)?;
        let row = self.query_one(&statement, &[]).await.map_err(shown)?;
        row.try_get(0).map_err(shown)
    }
}
