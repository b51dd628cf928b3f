//! A keeper of a password that a real OpenBao replaces under it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use leasehold_core::{Credentials, Current, ExposeSecret, Token};
use leasehold_renewal::Keeper;
use leasehold_secrets::StaticRole;
use serde_json::json;

use super::{
    Failure, Target,
    database::{Database, Server},
    service::{log_in, long, said},
    stage::{PATIENCE, until},
};

/// A user of PostgreSQL whose password OpenBao replaces, as a service logs in with it.
///
/// ```no_run
/// # async fn example() -> Result<(), leasehold_testbed::conformance::Failure> {
/// use leasehold_testbed::conformance::StaticLogin;
///
/// let login = StaticLogin::start(std::time::Duration::from_secs(5)).await?;
/// let pool_would_follow = login.current();
/// login.rotate().await?;
/// login.stop().await
/// # }
/// ```
#[derive(Debug)]
pub struct StaticLogin {
    database: Database,
    user: &'static str,
    token: Keeper<Token>,
    login: Keeper<Credentials>,
}

impl StaticLogin {
    /// Starts the servers and the keeper. The password is replaced after each `period`, of five seconds at least.
    ///
    /// # Errors
    /// Whatever kept it from starting.
    pub async fn start(period: Duration) -> Result<Self, Failure> {
        let database = Database::start(Server::Postgres, long()).await?;
        let testbed = Arc::clone(database.testbed()?);
        let user = testbed.make_role_static(json!({ "rotation_period": period.as_secs() })).await?;
        let (vault, token) = log_in(&testbed).await?;
        let role = StaticRole::new(vault, token.current(), testbed.db_role());
        let login = said(Keeper::start(role).await)?;
        Ok(Self { database, user, token, login })
    }

    /// What a pool follows.
    pub fn current(&self) -> Current<Credentials> {
        self.login.current()
    }

    /// Where a pool connects to.
    ///
    /// # Errors
    /// None, with PostgreSQL.
    pub fn target(&self) -> Result<Target, Failure> {
        self.database.target()
    }

    /// Replaces the password, as an operator would.
    ///
    /// # Errors
    /// If OpenBao does not.
    pub async fn rotate(&self) -> Result<(), Failure> {
        Ok(self.database.testbed()?.rotate_static_role().await?)
    }

    /// Waits until the keeper has the password that OpenBao hands out, and returns how long that took.
    ///
    /// # Errors
    /// If it has not within twenty seconds.
    pub async fn followed(&self) -> Result<Duration, Failure> {
        until("the password that is handed out", PATIENCE, || async {
            let password = self.database.testbed()?.static_password().await?;
            let issued = said(self.login.current().get())?;
            Ok(issued.secret().password().expose_secret() == password)
        })
        .await
    }

    /// Waits for this generation.
    ///
    /// # Errors
    /// If it does not come within forty seconds.
    pub async fn generation(&self, number: u64) -> Result<(), Failure> {
        until("a rotation", 2 * PATIENCE, || async {
            Ok(self.login.health().generation.is_some_and(|generation| generation.number() >= number))
        })
        .await
        .map(drop)
    }

    /// The processes behind the user's sessions.
    ///
    /// # Errors
    /// If PostgreSQL does not tell.
    pub async fn sessions(&self) -> Result<BTreeSet<String>, Failure> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{}'", self.user);
        let rows = self.database.testbed()?.postgres().query(&sql).await?;
        Ok(rows.into_iter().flatten().flatten().collect())
    }

    /// Shuts the keepers down, once the pools are closed.
    ///
    /// # Errors
    /// Whatever could not be shut down.
    pub async fn stop(self) -> Result<(), Failure> {
        said(self.login.shutdown().await)?;
        said(self.token.shutdown().await)
    }
}
