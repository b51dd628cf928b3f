//! The servers that the demo runs against: the testbed's, or somebody's own.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use leasehold_auth::{Kubernetes, Login};
use leasehold_core::Vault;
use leasehold_testbed::Testbed;
use leasehold_vault::Client;
use tokio::time::{Instant, interval};

use super::Options;
use crate::Setup;

pub(crate) enum Servers {
    Testbed(Box<Testbed>),
    External { database_url: String },
}

type Left = (Option<usize>, Option<usize>, Option<usize>);

impl Servers {
    pub(crate) async fn start(options: &Options, setup: Setup) -> Result<Self> {
        if options.external {
            let database_url = options.database_url.clone();
            let database_url = database_url
                .context("--external needs your database: set DATABASE_URL, without credentials")?;
            return Ok(Self::External { database_url });
        }
        let product = setup.product()?;
        setup.build_missing(&setup.images(&setup.config())?).await?;
        eprintln!("starting {} and PostgreSQL", product.name());
        Ok(Self::Testbed(Box::new(Testbed::start(setup.config()).await?)))
    }

    pub(crate) fn vault(&self) -> Result<Arc<dyn Vault>> {
        Ok(match self {
            Self::Testbed(testbed) => {
                Arc::new(Client::builder().address(testbed.openbao().address()).build()?)
            }
            Self::External { .. } => Arc::new(Client::from_env()?),
        })
    }

    pub(crate) fn login(&self, options: &Options, vault: Arc<dyn Vault>) -> Result<Login> {
        Ok(match self {
            Self::Testbed(testbed) => Box::new(
                Kubernetes::new(vault, &options.role).jwt_path(testbed.service_account().token_path()),
            ),
            Self::External { .. } => leasehold_auth::detect(vault, &options.role)?,
        })
    }

    pub(crate) fn database_url(&self) -> &str {
        match self {
            Self::Testbed(testbed) => testbed.database_url(),
            Self::External { database_url } => database_url,
        }
    }

    pub(crate) fn query(&self, options: &Options) -> String {
        match self {
            Self::Testbed(_) => "SELECT value FROM measurements WHERE id = 7".to_owned(),
            Self::External { .. } => options.query.clone(),
        }
    }

    /// Leases, tokens and database users that are still there, polled for up to 10 s: the server queues revocations.
    pub(crate) async fn left_behind(&self) -> Result<Left> {
        let Self::Testbed(testbed) = self else { return Ok((None, None, None)) };
        let end = Instant::now() + Duration::from_secs(10);
        let mut poll = interval(Duration::from_millis(200));
        loop {
            poll.tick().await;
            let leases = testbed.openbao().leases().await?.len();
            let tokens = testbed.openbao().tokens().await?.len();
            let users = testbed.postgres().dynamic_users().await?.len();
            if leases + tokens + users == 0 || Instant::now() >= end {
                return Ok((Some(leases), Some(tokens), Some(users)));
            }
        }
    }
}
