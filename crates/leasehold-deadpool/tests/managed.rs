//! A manager of one's own passes the conformance suite: here over tokio-postgres, whose adapter needs none.

mod adapter;
mod own_manager;

use adapter::{UnderTest, shown};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_deadpool::{Manager, Settings, build};
use leasehold_testbed::{
    conformance::{Adapter, Pool, Target},
    conformance_tests,
};
use own_manager::Connector;
use tokio_postgres::Config;

conformance_tests!(Managed);

struct Managed;

#[async_trait]
impl Adapter for Managed {
    fn name(&self) -> &'static str {
        "deadpool, a manager of one's own"
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let mut config = Config::new();
        config.host(&target.host).port(target.port).dbname(&target.database);
        let manager = Manager::new(Connector(config), current).map_err(shown)?;
        let builder = deadpool::managed::Pool::builder(manager).max_size(size);
        Ok(Box::new(UnderTest(build(builder, Settings::default()).await.map_err(shown)?)))
    }
}
