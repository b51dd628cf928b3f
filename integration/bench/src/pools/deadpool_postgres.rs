//! `deadpool_postgres::Pool`.

use std::{future::Future, pin::Pin, sync::Arc};

use anyhow::Result;
use deadpool_postgres::{Connect, Hook, HookError, Manager, ManagerConfig, Pool as Deadpool, PoolBuilder};
use leasehold_core::{Credentials, Current, ExposeSecret as _, async_trait};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::{Adapter, Pool, READ, Tuning, Way, newest::Newest};
use crate::server::Place;

pub(super) struct DeadpoolPostgres;

#[async_trait]
impl Adapter for DeadpoolPostgres {
    fn name(&self) -> &'static str {
        "deadpool-postgres"
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
        let size = usize::try_from(tuning.size)?;
        let sized = move |pool: PoolBuilder| pool.max_size(size);
        Ok(Arc::new(Measured(match way {
            Way::Plain => {
                sized(Deadpool::builder(Manager::new(with(&base, current.get()?.secret()), NoTls))).build()?
            }
            Way::CloseAtCheckOut => close_at_check_out(base, sized, current)?,
            Way::Leasehold => {
                leasehold_deadpool::postgres::Postgres::new(base)
                    .pool(sized)
                    .settings(tuning.settings())
                    .connect(current)
                    .await?
            }
        })))
    }
}

fn close_at_check_out(
    base: Config,
    sized: impl FnOnce(PoolBuilder) -> PoolBuilder,
    current: Current<Credentials>,
) -> Result<Deadpool> {
    let newest = Newest::following(current, move |credentials| with(&base, credentials))?;
    let asked = Arc::clone(&newest);
    let manager = Manager::from_connect(Config::new(), ByHand(newest), ManagerConfig::default());
    let builder = Deadpool::builder(manager).pre_recycle(Hook::sync_fn(move |_, connection| {
        if asked.is_stale(connection.age()) { Err(HookError::message("it is old")) } else { Ok(()) }
    }));
    Ok(sized(builder).build()?)
}

fn with(base: &Config, credentials: &Credentials) -> Config {
    let mut config = base.clone();
    config.user(credentials.username()).password(credentials.password().expose_secret());
    config
}

/// Connects as the newest options say.
struct ByHand(Arc<Newest<Config>>);

type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

impl Connect for ByHand {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        let config = self.0.get();
        Box::pin(async move {
            let (client, connection) = config.connect(NoTls).await?;
            let task = tokio::spawn(async move { drop(connection.await) });
            Ok((client, task))
        })
    }
}

struct Measured(Deadpool);

#[async_trait]
impl Pool for Measured {
    async fn query(&self) -> Result<()> {
        read(&self.0.get().await?).await
    }

    async fn check_out(&self, times: u32) -> Result<()> {
        for _ in 0..times {
            drop(self.0.get().await?);
        }
        Ok(())
    }

    async fn fill(&self) -> Result<()> {
        let mut held = Vec::new();
        for _ in 0..self.0.status().max_size {
            let client = self.0.get().await?;
            read(&client).await?;
            held.push(client);
        }
        Ok(())
    }

    async fn close(&self) {
        self.0.close();
    }
}

async fn read(client: &deadpool_postgres::Client) -> Result<()> {
    let statement = client.prepare_cached(READ).await?;
    client.query_one(&statement, &[]).await?;
    Ok(())
}
