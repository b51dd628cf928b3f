//! bb8 with tokio-postgres passes the conformance suite.

use std::{fmt::Display, time::Duration};

use leasehold_bb8::{
    Manager,
    postgres::{Connector, Pool as Bb8, Postgres},
};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_testbed::{
    conformance::{Adapter, Connection, Pool, Target},
    conformance_tests,
};

conformance_tests!(Bb8Postgres);

struct Bb8Postgres;

#[async_trait]
impl Adapter for Bb8Postgres {
    fn name(&self) -> &'static str {
        "bb8"
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let mut config = tokio_postgres::Config::new();
        config.host(&target.host).port(target.port).dbname(&target.database);
        let size = u32::try_from(size).map_err(shown)?;
        let pool = Postgres::new(config)
            .pool(move |pool| pool.max_size(size).connection_timeout(Duration::from_secs(15)))
            .connect(current);
        Ok(Box::new(UnderTest(pool.await.map_err(shown)?)))
    }
}

struct UnderTest(Bb8);

#[async_trait]
impl Pool for UnderTest {
    async fn acquire(&self) -> Result<Box<dyn Connection>, String> {
        Ok(Box::new(Borrowed(self.0.get_owned().await.map_err(shown)?)))
    }

    async fn close(&self) {
        self.0.close().await;
    }

    fn debug(&self) -> String {
        format!("{:?}", self.0)
    }
}

struct Borrowed(bb8::PooledConnection<'static, Manager<Connector>>);

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
