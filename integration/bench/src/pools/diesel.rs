//! diesel's own r2d2 pool of `PgConnection`s.

use std::sync::Arc;

use anyhow::Result;
use diesel::{
    Connection as _, ConnectionError, PgConnection, RunQueryDsl as _,
    dsl::sql,
    r2d2::{self, ConnectionManager, ManageConnection, R2D2Connection as _},
    sql_types::BigInt,
};
use leasehold_core::{Credentials, Current, ExposeSecret as _, async_trait};
use tokio::{task::spawn_blocking, time::Instant};

use super::{Adapter, Pool, READ, Tuning, Way, newest::Newest};
use crate::server::Place;

pub(super) struct Diesel;

#[async_trait]
impl Adapter for Diesel {
    fn name(&self) -> &'static str {
        "diesel-r2d2"
    }

    async fn build(
        &self,
        way: Way,
        place: &Place,
        tuning: Tuning,
        current: Current<Credentials>,
    ) -> Result<Arc<dyn Pool>> {
        let Place { host, port, database } = place;
        let base = format!("{host}:{port}/{database}?sslmode=disable");
        let size = tuning.size;
        Ok(match way {
            Way::Plain => {
                let manager = ConnectionManager::new(url(&base, current.get()?.secret()));
                measured(spawn_blocking(move || sized(size).build(manager)).await??, |connection| connection)
            }
            Way::CloseAtCheckOut => {
                let manager = ByHand(Newest::following(current, move |credentials| url(&base, credentials))?);
                measured(spawn_blocking(move || sized(size).build(manager)).await??, |aged| {
                    &mut aged.connection
                })
            }
            Way::Leasehold => {
                let postgres = leasehold_diesel::Postgres::new(&format!("postgres://{base}"))?;
                let pool = postgres
                    .pool(move |pool| pool.max_size(size))
                    .settings(tuning.settings())
                    .connect(current)
                    .await?;
                measured(pool, |connection| connection)
            }
        })
    }
}

fn sized<M: ManageConnection>(size: u32) -> r2d2::Builder<M> {
    r2d2::Pool::builder().max_size(size)
}

fn measured<M: ManageConnection>(
    pool: r2d2::Pool<M>,
    connection: fn(&mut M::Connection) -> &mut PgConnection,
) -> Arc<dyn Pool> {
    Arc::new(Measured { pool, connection })
}

/// The users of the benchmark have neither a name nor a password with characters that would have to be escaped.
fn url(base: &str, credentials: &Credentials) -> String {
    format!("postgres://{}:{}@{base}", credentials.username(), credentials.password().expose_secret())
}

/// What rotates by hand: it connects as the newest URL says, and refuses what is older.
#[derive(Debug)]
struct ByHand(Arc<Newest<String>>);

struct Aged {
    connection: PgConnection,
    opened: Instant,
}

impl ManageConnection for ByHand {
    type Connection = Aged;
    type Error = r2d2::Error;

    fn connect(&self) -> Result<Aged, r2d2::Error> {
        let connection = PgConnection::establish(&self.0.get()).map_err(r2d2::Error::ConnectionError)?;
        Ok(Aged { connection, opened: Instant::now() })
    }

    fn is_valid(&self, aged: &mut Aged) -> Result<(), r2d2::Error> {
        if self.0.is_stale(aged.opened.elapsed()) {
            return Err(r2d2::Error::ConnectionError(ConnectionError::BadConnection("it is old".to_owned())));
        }
        aged.connection.ping().map_err(r2d2::Error::QueryError)
    }

    fn has_broken(&self, aged: &mut Aged) -> bool {
        aged.connection.is_broken()
    }
}

struct Measured<M: ManageConnection> {
    pool: r2d2::Pool<M>,
    connection: fn(&mut M::Connection) -> &mut PgConnection,
}

#[async_trait]
impl<M: ManageConnection> Pool for Measured<M> {
    async fn query(&self) -> Result<()> {
        let (pool, connection) = (self.pool.clone(), self.connection);
        spawn_blocking(move || read(connection(&mut *pool.get()?))).await?
    }

    /// On this thread: what is measured is what it does.
    async fn check_out(&self, times: u32) -> Result<()> {
        for _ in 0..times {
            drop(self.pool.get()?);
        }
        Ok(())
    }

    async fn fill(&self) -> Result<()> {
        let (pool, connection) = (self.pool.clone(), self.connection);
        let filled = spawn_blocking(move || {
            let mut held = Vec::new();
            for _ in 0..pool.max_size() {
                let mut lent = pool.get()?;
                read(connection(&mut lent))?;
                held.push(lent);
            }
            Ok(())
        });
        filled.await?
    }

    /// r2d2 has none: a pool ends with its last handle, and ours with the benchmark's keeper.
    async fn close(&self) {}
}

fn read(connection: &mut PgConnection) -> Result<()> {
    sql::<BigInt>(READ).get_result::<i64>(connection)?;
    Ok(())
}
