//! diesel's r2d2 pools pass the conformance suite.

use std::{fmt::Display, time::Duration};

use diesel::{
    RunQueryDsl,
    dsl::sql,
    pg::PgConnection,
    r2d2::{Pool as R2d2, PooledConnection},
    sql_types::Text,
};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_diesel::{Manager, Postgres};
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Connection, Pool, Target},
    conformance_tests,
};
use tokio::task::{JoinHandle, spawn_blocking};

conformance_tests!(Diesel { min_idle: None });

/// r2d2 opens all connections at once unless it is told otherwise.
mod opened_when_needed {
    use super::Diesel;

    leasehold_testbed::conformance_tests!(@each Diesel { min_idle: Some(0) }, straddling_handshake, saturated);
}

struct Diesel {
    min_idle: Option<u32>,
}

#[async_trait]
impl Adapter for Diesel {
    fn name(&self) -> &'static str {
        "diesel's r2d2"
    }

    fn abilities(&self) -> Abilities {
        Abilities { opens_all_at_once: self.min_idle.is_none(), ..Abilities::default() }
    }

    async fn build(
        &self,
        target: &Target,
        size: usize,
        current: Current<Credentials>,
    ) -> Result<Box<dyn Pool>, String> {
        let Target { host, port, database, .. } = target;
        let (size, min_idle) = (u32::try_from(size).map_err(shown)?, self.min_idle);
        let builder = Postgres::new(&format!("postgres://{host}:{port}/{database}?sslmode=disable"))
            .map_err(shown)?
            .pool(move |pool| {
                pool.max_size(size).min_idle(min_idle).connection_timeout(Duration::from_secs(15))
            });
        let runtime = tokio::runtime::Handle::current();
        let built = spawn_blocking(move || {
            builder.connect_blocking(current, move |rotation| runtime.spawn(rotation))
        });
        let (pool, rotation) = built.await.map_err(shown)?.map_err(shown)?;
        Ok(Box::new(UnderTest { pool, rotation }))
    }
}

struct UnderTest {
    pool: R2d2<Manager<PgConnection>>,
    rotation: JoinHandle<()>,
}

#[async_trait]
impl Pool for UnderTest {
    async fn acquire(&self) -> Result<Box<dyn Connection>, String> {
        let pool = self.pool.clone();
        let connection = spawn_blocking(move || pool.get().map_err(shown)).await.map_err(shown)??;
        Ok(Box::new(Borrowed(Some(Box::new(connection)))))
    }

    async fn close(&self) {
        // r2d2 has no close: the pool ends with its last handle, of which the rotation has one.
        self.rotation.abort();
    }

    fn debug(&self) -> String {
        format!("{:?}", self.pool)
    }
}

type Lent = PooledConnection<Manager<PgConnection>>;

struct Borrowed(Option<Box<Lent>>);

#[async_trait]
impl Connection for Borrowed {
    async fn query(&mut self, text: &'static str) -> Result<String, String> {
        let mut lent = self.0.take().ok_or("a query before was cancelled")?;
        let asked = spawn_blocking(move || {
            let answer = sql::<Text>(text).get_result::<String>(&mut **lent).map_err(shown);
            (lent, answer)
        });
        let (lent, answer) = asked.await.map_err(shown)?;
        self.0 = Some(lent);
        answer
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}
