//! What the demo runs: a service as anybody would write it, that can be stopped however far it got.

use anyhow::{Context as _, Result};
use leasehold_core::{Credentials, Current, Token};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use sqlx::PgPool;

use super::{Options, servers::Servers, view::View};

#[derive(Default)]
pub(crate) struct Service {
    token: Option<Keeper<Token>>,
    login: Option<Keeper<Credentials>>,
    pool: Option<PgPool>,
}

impl Service {
    /// Logs in, obtains credentials and connects. What is there when it fails or is dropped, [`stop`](Self::stop) ends.
    pub(crate) async fn start(
        &mut self,
        options: &Options,
        servers: &Servers,
        view: &View,
    ) -> Result<(Current<Token>, Current<Credentials>, PgPool)> {
        let vault = servers.vault()?;
        let token = Keeper::start(servers.login(options, vault.clone())?).await.context("logging in")?;
        let token = self.token.insert(token).current();
        view.note("logged in");
        let role = DatabaseRole::new(vault, token.clone(), &options.db_role).mount(&options.db_mount);
        let login = Keeper::start(role).await.context("obtaining credentials")?;
        let login = self.login.insert(login).current();
        view.note(&format!("obtained credentials: {}", login.get()?.secret().username()));
        let pool = leasehold_sqlx::Postgres::from_url(servers.database_url())?
            .min_connections(options.connections)
            .max_connections(options.connections)
            .connect(login.clone())
            .await
            .context("connecting to the database")?;
        view.note("connected; the load begins");
        Ok((token, login, self.pool.insert(pool).clone()))
    }

    /// Leaf first: the pool, the credentials, the token. Each is tried, whatever became of the one before.
    pub(crate) async fn stop(self) -> Result<()> {
        let mut ended = Ok(());
        if let Some(pool) = self.pool {
            pool.close().await;
        }
        if let Some(login) = self.login {
            ended = ended.and(login.shutdown().await.context("shutting down the credentials' keeper"));
        }
        if let Some(token) = self.token {
            ended = ended.and(token.shutdown().await.context("shutting down the token's keeper"));
        }
        ended
    }
}
