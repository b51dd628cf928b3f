//! `deadpool_redis::Pool` passes the conformance suite.

mod adapter;

use adapter::{Ask, UnderTest, shown};
use deadpool_redis::{Connection as Client, redis};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_deadpool::redis::Redis;
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Pool, Server, Target},
    conformance_tests,
};

conformance_tests!(DeadpoolRedis);

struct DeadpoolRedis;

#[async_trait]
impl Adapter for DeadpoolRedis {
    fn name(&self) -> &'static str {
        "deadpool-redis"
    }

    fn server(&self) -> Server {
        Server::Redis
    }

    fn abilities(&self) -> Abilities {
        Abilities { logs_in_again: true, ..Abilities::default() }
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let Target { host, port, database, .. } = target;
        let address = format!("redis://{host}:{port}/{database}");
        let redis = Redis::new(address.as_str()).map_err(shown)?;
        let built = redis.pool(move |pool| pool.max_size(size)).connect(current).await;
        Ok(Box::new(UnderTest(built.map_err(shown)?)))
    }
}

#[async_trait]
impl Ask for Client {
    async fn ask(&mut self, command: &'static str) -> Result<String, String> {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            command.arg(word);
        }
        command.query_async(self).await.map_err(shown)
    }
}
