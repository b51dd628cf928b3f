//! A standby of PostgreSQL.

mod container;
mod process;

use std::time::Duration;

use crate::{
    backstage::{Backstage, poll},
    error::{Error, Result},
    ports::Port,
    postgres::{self, Postgres},
    site::{Ground, Site},
};

/// Its name in messages, and in its folder's name.
const NAME: &str = "Standby";

/// The name of what the primary keeps for it, so that it can be away for a while.
const SLOT: &str = "standby";

/// How long it may take to hear of everything, beyond its delay.
const PATIENCE: Duration = Duration::from_secs(20);

/// A PostgreSQL server that streams from the primary, does everything later, and can be made a primary.
///
/// It hears of everything at once and waits with what was committed, users and their ends included: a user that OpenBao made
/// a moment ago is not known here yet, and one that was dropped still is.
#[derive(Debug)]
pub struct Standby {
    postgres: Postgres,
    backstage: Backstage,
}

impl Standby {
    pub(crate) async fn launch(site: &Site, primary: &Postgres, port: Port, delay: Duration) -> Result<Self> {
        let (server, superuser) = match &site.ground {
            Ground::Machine => process::server(site, primary, &port).await?,
            Ground::Pod(pod) => container::server(site, pod, primary, &port).await?,
        };
        let postgres = Postgres::start(site, server, port, superuser).await?;
        let standby = Self { postgres, backstage: site.backstage.clone() };
        standby.delay(delay).await?;
        Ok(standby)
    }

    /// The server, which can do and suffer what any PostgreSQL server can, but that nothing can be written.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The database's address here, without credentials.
    pub fn url(&self) -> String {
        self.postgres.url()
    }

    /// Does everything so much later than the primary, from now on.
    pub async fn delay(&self, delay: Duration) -> Result<()> {
        let millis = delay.as_millis();
        let sql = format!("ALTER SYSTEM SET recovery_min_apply_delay = '{millis}ms'");
        self.postgres.execute(&sql).await?;
        self.postgres.execute("SELECT pg_reload_conf()").await
    }

    /// Whether it follows a primary: not any more once it was [promoted](Standby::promote).
    pub async fn follows(&self) -> Result<bool> {
        Ok(self.postgres.query("SELECT pg_is_in_recovery()").await? == [[Some("t".to_owned())]])
    }

    /// Waits until it has done everything that the primary had done by now.
    ///
    /// # Errors
    ///
    /// [`Error::Unanswered`] when that takes twenty seconds, which a longer delay does.
    pub async fn catch_up(&self, primary: &Postgres) -> Result<()> {
        let rows = primary.query("SELECT pg_current_wal_insert_lsn()").await?;
        let position = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        let administrator = self.postgres.administrator();
        let waited = self.backstage.run(async move {
            let done = || async { postgres::query(&administrator, &sql).await };
            poll(PATIENCE, || async { Ok((done().await? == [[Some("t".to_owned())]]).then_some(())) }).await
        });
        waited.await?.ok_or_else(|| Error::Unanswered {
            request: format!("{NAME}: everything up to {position}"),
            reason: format!("it is not there after {PATIENCE:?}"),
        })
    }

    /// Makes it a primary, with everything that it has heard of, whatever its delay: it can be written to, and hears of nothing
    /// any more. It returns when that is so.
    pub async fn promote(&self) -> Result<()> {
        self.postgres.execute("SELECT pg_promote(true, 60)").await?;
        if self.follows().await? {
            return Err(self.postgres.failed("was not promoted within a minute").await);
        }
        Ok(())
    }
}
