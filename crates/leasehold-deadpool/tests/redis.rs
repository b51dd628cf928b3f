//! `deadpool_redis::Pool` passes the conformance suite.

use std::fmt::Display;

use deadpool_redis::{Connection as Client, Pool as Deadpool, redis};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_deadpool::redis::Redis;
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Connection, Pool, Server, Target},
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

struct Borrowed(Client);

#[async_trait]
impl Connection for Borrowed {
    async fn query(&mut self, command: &'static str) -> Result<String, String> {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut self.0).await.map_err(shown)
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}
