//! `bb8::Pool` over tokio-postgres.

use std::{io, sync::Arc};

use ::bb8::ManageConnection;
use anyhow::Result;
use bb8_postgres::PostgresConnectionManager;
use leasehold_core::{Credentials, Current, ExposeSecret as _, async_trait};
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls};

use super::{Adapter, Pool, READ, Tuning, Way, newest::Newest};
use crate::server::Place;

pub(super) struct Bb8;

#[async_trait]
impl Adapter for Bb8 {
    fn name(&self) -> &'static str {
        "bb8"
    }

    async fn build(
        &self,
        way: Way,
        place: &Place,
        tuning: Tuning,
        current: Current<Credentials>,
    ) -> Result<Arc<dyn Pool>> {
        let mut base = Config::new();
        base.host(&place.host).port(place.port).dbname(&place.database);
        let size = tuning.size;
        Ok(match way {
            Way::Plain => {
                let manager = PostgresConnectionManager::new(with(&base, current.get()?.secret()), NoTls);
                let pool = ::bb8::Pool::builder().max_size(size).build(manager).await?;
                Arc::new(Measured { pool, client: |client| client, size, ours: None })
            }
            Way::CloseAtCheckOut => {
                let newest = Newest::following(current, move |credentials| with(&base, credentials))?;
                let pool = ::bb8::Pool::builder().max_size(size).build(ByHand(newest)).await?;
                Arc::new(Measured { pool, client: |aged| &aged.client, size, ours: None })
            }
            Way::Leasehold => {
                let postgres = leasehold_bb8::postgres::Postgres::new(base);
                let ours = postgres
                    .pool(move |pool| pool.max_size(size))
                    .settings(tuning.settings())
                    .connect(current)
                    .await?;
                let pool = ::bb8::Pool::clone(&ours);
                Arc::new(Measured { pool, client: |ours| ours, size, ours: Some(ours) })
            }
        })
    }
}

/// What rotates by hand: it connects as the newest configuration says, and refuses what is older.
struct ByHand(Arc<Newest<Config>>);

struct Aged {
    client: Client,
    opened: Instant,
}

impl ManageConnection for ByHand {
    type Connection = Aged;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Aged> {
        let (client, connection) = self.0.get().connect(NoTls).await.map_err(io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Aged { client, opened: Instant::now() })
    }

    async fn is_valid(&self, aged: &mut Aged) -> io::Result<()> {
        if self.0.is_stale(aged.opened.elapsed()) {
            return Err(io::Error::other("it is old"));
        }
        aged.client.simple_query("").await.map(drop).map_err(io::Error::other)
    }

    fn has_broken(&self, aged: &mut Aged) -> bool {
        aged.client.is_closed()
    }
}

fn with(base: &Config, credentials: &Credentials) -> Config {
    let mut config = base.clone();
    config.user(credentials.username()).password(credentials.password().expose_secret());
    config
}

struct Measured<M: ManageConnection> {
    pool: ::bb8::Pool<M>,
    client: fn(&M::Connection) -> &Client,
    size: u32,
    /// Rotates as long as there is one.
    ours: Option<leasehold_bb8::postgres::Pool>,
}

#[async_trait]
impl<M> Pool for Measured<M>
where
    M: ManageConnection,
    M::Error: std::error::Error + Send + Sync,
{
    async fn query(&self) -> Result<()> {
        read((self.client)(&*self.pool.get().await?)).await
    }

    async fn check_out(&self, times: u32) -> Result<()> {
        for _ in 0..times {
            drop(self.pool.get().await?);
        }
        Ok(())
    }

    async fn fill(&self) -> Result<()> {
        let mut held = Vec::new();
        for _ in 0..self.size {
            let connection = self.pool.get().await?;
            read((self.client)(&connection)).await?;
            held.push(connection);
        }
        Ok(())
    }

    async fn close(&self) {
        if let Some(ours) = &self.ours {
            ours.close().await;
        }
    }
}

/// bb8 keeps no prepared statements, so none is prepared.
async fn read(client: &Client) -> Result<()> {
    client.simple_query(READ).await?;
    Ok(())
}
