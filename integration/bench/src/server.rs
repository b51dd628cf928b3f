//! The database under the pools, and the users that log in to it.

use std::sync::Arc;

use anyhow::Result;
use leasehold_core::Credentials;
use leasehold_testbed::{Config, Testbed};

/// A PostgreSQL server of the testbed. Its OpenBao is there too, and has nothing to do.
pub(crate) struct Server(Arc<Testbed>);

/// Where a pool connects to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        let config = Config { report: |what| eprintln!("{what}"), ..Config::default() };
        Ok(Self(Arc::new(Testbed::start(config).await?)))
    }

    pub(crate) fn place(&self) -> Place {
        let postgres = self.0.postgres();
        Place {
            host: postgres.host().to_owned(),
            port: postgres.port(),
            database: postgres.database().to_owned(),
        }
    }

    /// Makes users who may read, as many as OpenBao would one by one.
    pub(crate) async fn make_users(&self, count: usize) -> Result<Vec<Credentials>> {
        let users: Vec<(String, String)> =
            (0..count).map(|_| (format!("v-bench-{}", text(12)), text(20))).collect();
        let create = |(name, password): &(String, String)| {
            format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}' IN ROLE pipeline_reader;")
        };
        self.0.postgres().execute(&users.iter().map(create).collect::<String>()).await?;
        Ok(users.into_iter().map(|(name, password)| Credentials::new(name, password)).collect())
    }

    pub(crate) async fn drop_users(&self, users: &[Credentials]) -> Result<()> {
        let drop = |user: &Credentials| format!("DROP ROLE \"{}\";", user.username());
        Ok(self.0.postgres().execute(&users.iter().map(drop).collect::<String>()).await?)
    }

    /// How many sessions these users have open.
    pub(crate) async fn sessions_of(&self, users: &[Credentials]) -> Result<usize> {
        let mut sessions = 0;
        for user in users {
            sessions += self.0.postgres().sessions_of(user.username()).await?;
        }
        Ok(sessions)
    }
}

fn text(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}
