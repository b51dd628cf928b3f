//! diesel's r2d2 pools of connections to PostgreSQL pass the conformance suite.

mod adapter;

use diesel::{RunQueryDsl, dsl::sql, sql_types::Text};
use leasehold_core::{Credentials, Current, async_trait};
use leasehold_diesel::Postgres;
use leasehold_testbed::{
    conformance::{Abilities, Adapter, Pool, Target},
    conformance_tests,
};

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
        let url = format!("postgres://{host}:{port}/{database}?sslmode=disable");
        let builder = Postgres::new(&url).map_err(adapter::shown)?;
        adapter::build(builder, size, self.min_idle, current, |connection, text| {
            sql::<Text>(text).get_result(connection)
        })
        .await
    }
}
