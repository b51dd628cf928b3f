//! A manager of one's own passes the conformance suite: here over tokio-postgres, whose adapter needs none.

mod adapter;

use adapter::{Ask, UnderTest, shown};
use deadpool::managed::Object;
use leasehold_core::{
    Credentials, Current, Error, ErrorKind, ExposeSecret, Party, Result as CoreResult, async_trait,
};
use leasehold_deadpool::{Connect, Manager, Settings, build};
use leasehold_testbed::{
    conformance::{Adapter, Pool, Target},
    conformance_tests,
};
use tokio_postgres::{Client, Config, NoTls};

conformance_tests!(Managed);

struct Managed;

struct Connector(Config);

impl Connect for Connector {
    type Connection = Client;

    async fn connect(&self, credentials: &Credentials) -> CoreResult<Client> {
        let mut config = self.0.clone();
        config.user(credentials.username()).password(credentials.password().expose_secret());
        let (client, connection) = config.connect(NoTls).await.map_err(translate)?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn check(&self, client: &mut Client) -> CoreResult<()> {
        match client.is_closed() {
            true => {
                Err(Error::new(ErrorKind::DatabaseUnavailable, Party::Database, "the connection has ended"))
            }
            false => Ok(()),
        }
    }

    async fn ask(&self, client: &mut Client) -> CoreResult<()> {
        client.simple_query("SELECT session_user").await.map(drop).map_err(translate)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn translate(error: tokio_postgres::Error) -> Error {
    let kind =
        error.code().map_or(ErrorKind::DatabaseUnavailable, |state| ErrorKind::of_sqlstate(state.code()));
    Error::new(kind, Party::Database, error.to_string())
}

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

#[async_trait]
impl Ask for Object<Manager<Connector>> {
    async fn ask(&mut self, sql: &'static str) -> Result<String, String> {
        let row = self.query_one(sql, &[]).await.map_err(shown)?;
        row.try_get(0).map_err(shown)
    }
}
