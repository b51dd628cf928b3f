//! A pool of one's own passes the suite that the adapters pass.

use std::fmt::Display;

use bring_your_own_pool::{pool, rotation};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_testbed::{
    conformance::{Adapter, Connection, Pool, Target},
    conformance_tests,
};

conformance_tests!(Own);

struct Own;

#[async_trait]
impl Adapter for Own {
    fn name(&self) -> &'static str {
        "bring your own"
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let mut config = tokio_postgres::Config::new();
        config.host(&target.host).port(target.port).dbname(&target.database);
        Ok(Box::new(UnderTest(rotation::connect(config, size, current).await.map_err(shown)?)))
    }
}

struct UnderTest(pool::Pool);

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

struct Borrowed(pool::Borrowed);

#[async_trait]
impl Connection for Borrowed {
    async fn query(&mut self, sql: &'static str) -> Result<String, String> {
        let row = self.0.query_one(sql, &[]).await.map_err(shown)?;
        row.try_get(0).map_err(shown)
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}
