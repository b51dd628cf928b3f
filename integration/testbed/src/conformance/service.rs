//! The cases that need the whole: a login, a role, two keepers and a real OpenBao.

use std::{sync::Arc, time::Duration};

use leasehold_auth::Kubernetes;
use leasehold_core::{Credentials, EventKind, Token, Vault};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_vault::Client;

use super::{
    Adapter, Failure, Pool,
    cases::Watcher,
    stage::{PATIENCE, READ, fill, load, target, until},
};
use crate::{Config, Testbed};

struct Service {
    testbed: Arc<Testbed>,
    token: Keeper<Token>,
    login: Keeper<Credentials>,
    pool: Arc<dyn Pool>,
}

impl Service {
    async fn start(adapter: &dyn Adapter, config: Config, size: usize) -> Result<Self, Failure> {
        let testbed = Arc::new(Testbed::start(config).await?);
        let vault: Arc<dyn Vault> =
            Arc::new(said(Client::builder().address(testbed.openbao().address()).build())?);
        let login = Kubernetes::new(Arc::clone(&vault), testbed.role())
            .mount(testbed.kubernetes_mount())
            .jwt_path(testbed.service_account().token_path());
        let token = said(Keeper::start(login).await)?;
        let role = DatabaseRole::new(vault, token.current(), testbed.db_role());
        let login = said(Keeper::start(role).await)?;
        let pool = adapter.build(&target(&testbed), size, login.current()).await.map_err(Failure)?;
        Ok(Self { testbed, token, login, pool: Arc::from(pool) })
    }

    /// Leaf first. Afterwards nothing is left on either server.
    async fn stop(self) -> Result<(), Failure> {
        self.pool.close().await;
        drop(self.pool);
        said(self.login.shutdown().await)?;
        said(self.token.shutdown().await)?;
        until("no lease, token, user or session is left", PATIENCE, || async {
            let leases = self.testbed.openbao().leases().await?.len();
            let tokens = self.testbed.openbao().tokens().await?.len();
            let users = self.testbed.postgres().dynamic_users().await?.len();
            let orphans = self.testbed.postgres().orphaned_sessions().await?;
            Ok(leases + tokens + users + orphans == 0)
        })
        .await
        .map(drop)
    }
}

/// A real OpenBao with leases of seconds, and a load: three rotations under two tokens, no failed query, and nothing left.
///
/// # Errors
/// What was not kept.
pub async fn under_openbao(adapter: &dyn Adapter) -> Result<(), Failure> {
    let service = Service::start(adapter, Config::default(), SIZE).await?;
    fill(&service.pool, SIZE).await?;
    let mut events = service.login.events();
    let load = load(&service.pool, 200);
    let watcher = Watcher::start(Arc::clone(&service.testbed));
    let mut adopted = 0;
    until("three rotations under two tokens", 3 * PATIENCE, || {
        while let Ok(event) = events.try_recv() {
            adopted += usize::from(matches!(event.kind, EventKind::Adopted));
        }
        let token = service.token.health().generation.map_or(0, |generation| generation.number());
        let done = adopted >= 3 && token >= 2;
        async move { Ok(done) }
    })
    .await?;
    let measured = load.stop().await;
    if measured.failed > 0 {
        return Err(Failure(format!(
            "{} of {} failed: {:?}",
            measured.failed, measured.queries, measured.failures
        )));
    }
    let ((_, most), allowed) = (watcher.stop(), SIZE + adapter.abilities().spare_sessions);
    if most > allowed {
        return Err(Failure(format!("{most} sessions at once, where {allowed} are promised")));
    }
    service.stop().await
}

/// An operator revokes the lease: noticed as early as the adapter says, and then every connection is a new user's.
///
/// # Errors
/// What was not kept.
pub async fn revoked_by_an_operator(adapter: &dyn Adapter) -> Result<(), Failure> {
    let hour = Duration::from_secs(3600);
    let long = Config {
        lease_ttl: hour,
        lease_max_ttl: 24 * hour,
        token_ttl: hour,
        token_max_ttl: 24 * hour,
        ..Config::default()
    };
    let service = Service::start(adapter, long, 4).await?;
    fill(&service.pool, 4).await?;
    let load = load(&service.pool, 20);
    service.testbed.openbao().revoke_prefix("database/creds").await?;
    let within = adapter.abilities().notices_within;
    until("a successor", within, || async {
        Ok(service.login.health().generation.is_some_and(|generation| generation.number() > 1))
    })
    .await?;
    until("every connection answers", PATIENCE, || async {
        for _ in 0..8 {
            let answer = match service.pool.acquire().await {
                Ok(mut connection) => connection.query(READ).await,
                Err(error) => Err(error),
            };
            if answer.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    load.stop().await;
    service.stop().await
}

fn said<T>(outcome: leasehold_core::Result<T>) -> Result<T, Failure> {
    outcome.map_err(|error| Failure(error.to_string()))
}

const SIZE: usize = 8;
