//! A pool of diesel-async's connections passes the conformance suite.

mod adapter;

use adapter::{Ask, UnderTest, shown};
use deadpool::managed::Object;
use diesel::{QueryableByName, sql_types::Text};
use diesel_async::RunQueryDsl;
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_deadpool::{
    Manager, Settings, build,
    diesel_async::{self as with_diesel, Connector},
};
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Pool, Target},
    conformance_tests,
};
use tokio_postgres::{Config, NoTls};

conformance_tests!(DeadpoolDiesel);

struct DeadpoolDiesel;

#[async_trait]
impl Adapter for DeadpoolDiesel {
    fn name(&self) -> &'static str {
        "deadpool with diesel-async"
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
        let pool =
            build(with_diesel::Pool::builder(manager).max_size(size), settings).await.map_err(shown)?;
        Ok(Box::new(UnderTest(pool)))
    }
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    answer: String,
}

#[async_trait]
impl Ask for Object<Manager<Connector>> {
    async fn ask(&mut self, sql: &'static str) -> Result<String, String> {
        let named = format!("SELECT answer FROM ({sql}) AS answers (answer)");
        let row: Answer = diesel::sql_query(named).get_result(self).await.map_err(shown)?;
        Ok(row.answer)
    }
}
