//! bb8 with diesel-async passes the conformance suite.

use std::{fmt::Display, time::Duration};

use bb8::PooledConnection;
use diesel::{QueryableByName, sql_types::Text};
use diesel_async::RunQueryDsl;
use leasehold_bb8::{
    Manager, Settings, build,
    diesel_async::{self as adapter, Connector},
};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Connection, Pool, Target},
    conformance_tests,
};
use tokio_postgres::{Config, NoTls};

conformance_tests!(Bb8Diesel);

struct Bb8Diesel;

#[async_trait]
impl Adapter for Bb8Diesel {
    fn name(&self) -> &'static str {
        "bb8 with diesel-async"
    }

    fn abilities(&self) -> Abilities {
        Abilities { terminates: true, ..Abilities::default() }
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let mut config = Config::new();
        config.host(&target.host).port(target.port).dbname(&target.database);
        let manager = Manager::new(Connector::new(config, NoTls), current).map_err(shown)?;
        let settings = Settings { terminate: true, ..Settings::default() };
        let size = u32::try_from(size).map_err(shown)?;
        let builder = bb8::Pool::builder().max_size(size).connection_timeout(Duration::from_secs(15));
        let pool = build(builder, manager, settings).await.map_err(shown)?;
        Ok(Box::new(UnderTest(pool)))
    }
}

struct UnderTest(adapter::Pool);

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

struct Borrowed(PooledConnection<'static, Manager<Connector>>);

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    answer: String,
}

#[async_trait]
impl Connection for Borrowed {
    async fn query(&mut self, sql: &'static str) -> Result<String, String> {
        let named = format!("SELECT answer FROM ({sql}) AS answers (answer)");
        let row: Answer = diesel::sql_query(named).get_result(&mut **self.0).await.map_err(shown)?;
        Ok(row.answer)
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}
