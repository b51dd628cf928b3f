//! A pool of mysql_async's connections passes the conformance suite on MariaDB.

mod adapter;

use adapter::{Ask, UnderTest, shown};
use deadpool::managed::Object;
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_deadpool::{
    Manager, Settings, build,
    mysql::{self, MySql},
};
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Pool, Server, Target},
    conformance_tests,
};
use mysql_async::{OptsBuilder, prelude::Queryable};

conformance_tests!(DeadpoolMySql);

struct DeadpoolMySql;

#[async_trait]
impl Adapter for DeadpoolMySql {
    fn name(&self) -> &'static str {
        "deadpool with mysql_async"
    }

    fn server(&self) -> Server {
        Server::MariaDb
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
        let options = OptsBuilder::default()
            .ip_or_hostname(&target.host)
            .tcp_port(target.port)
            .db_name(Some(&target.database))
            // It would go round whatever is between us and the server.
            .prefer_socket(false);
        let manager = Manager::new(MySql::new(options), current).map_err(shown)?;
        let settings = Settings { terminate: true, ..Settings::default() };
        let pool = build(mysql::Pool::builder(manager).max_size(size), settings).await.map_err(shown)?;
        Ok(Box::new(UnderTest(pool)))
    }
}

#[async_trait]
impl Ask for Object<Manager<MySql>> {
    async fn ask(&mut self, sql: &'static str) -> Result<String, String> {
        let row: Option<String> = self.query_first(sql).await.map_err(shown)?;
        row.ok_or_else(|| "no row".to_owned())
    }
}
