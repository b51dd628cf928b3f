//! A manager of one's own, over tokio-postgres.

use deadpool::managed::Object;
use leasehold_core::{Credentials, Error, ErrorKind, ExposeSecret, Party, Result as CoreResult, async_trait};
use leasehold_deadpool::{Connect, Manager};
use tokio_postgres::{Client, Config, NoTls};

use crate::adapter::{Ask, shown};

pub(crate) struct Connector(pub(crate) Config);

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
    let kind = error.as_db_error().map_or(ErrorKind::DatabaseUnavailable, |refusal| {
        ErrorKind::of_sqlstate(refusal.code().code(), refusal.message())
    });
    Error::new(kind, Party::Database, error.to_string())
}

#[async_trait]
impl Ask for Object<Manager<Connector>> {
    async fn ask(&mut self, sql: &'static str) -> Result<String, String> {
        let row = self.query_one(sql, &[]).await.map_err(shown)?;
        row.try_get(0).map_err(shown)
    }
}
