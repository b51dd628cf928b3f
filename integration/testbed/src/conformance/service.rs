//! The cases that need the whole: a login, a role, two keepers and a real OpenBao.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use leasehold_auth::Kubernetes;
use leasehold_core::{Credentials, EventKind, Token, Vault};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_vault::Client;

use super::{
    Adapter, Failure, Pool, Server,
    cases::{Watcher, every_connection_answers},
    database::Database,
    stage::{PATIENCE, fill, load, until},
};
use crate::{Config, Testbed};

struct Service {
    database: Database,
    token: Keeper<Token>,
    login: Keeper<Credentials>,
    pool: Arc<dyn Pool>,
}

impl Service {
    async fn start(adapter: &dyn Adapter, config: Config, size: usize) -> Result<Self, Failure> {
        let database = Database::start(adapter.server(), config).await?;
        let testbed = Arc::clone(database.testbed()?);
        let (vault, token) = log_in(&testbed).await?;
        let role = DatabaseRole::new(vault, token.current(), database.role()?);
        let login = said(Keeper::start(role).await)?;
        let pool = adapter.build(&database.target()?, size, login.current()).await.map_err(Failure)?;
        Ok(Self { database, token, login, pool: Arc::from(pool) })
    }

    /// Leaf first. Afterwards nothing is left on either server.
    async fn stop(self) -> Result<(), Failure> {
        self.pool.close().await;
        drop(self.pool);
        said(self.login.shutdown().await)?;
        said(self.token.shutdown().await)?;
        until("no lease, token, user or session is left", PATIENCE, || async {
            Ok(self.database.remains().await? == 0)
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
    let service = Service::start(adapter, short(), SIZE).await?;
    fill(&service.pool, SIZE).await?;
    let mut events = service.login.events();
    let load = load(&service.pool, adapter.server(), 200);
    let watcher = Watcher::start(service.database.clone());
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

/// However a role ends its users, none has a connection by then: users lose their login, and keep their sessions; or
/// keep both, and lose their rights. Redis has no such statements.
///
/// # Errors
/// What was not kept.
pub async fn revocation_statements(adapter: &dyn Adapter) -> Result<(), Failure> {
    let ways: &[&[&str]] = match adapter.server() {
        Server::Postgres => &[
            &[r#"ALTER ROLE "{{name}}" NOLOGIN"#],
            &[r#"REVOKE pipeline_reader FROM "{{name}}""#, r#"ALTER ROLE "{{name}}" CONNECTION LIMIT 0"#],
        ],
        Server::MariaDb => &[
            &["ALTER USER '{{name}}'@'%' ACCOUNT LOCK"],
            &["REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{{name}}'@'%'"],
        ],
        Server::Redis => &[],
    };
    let minute = Duration::from_secs(60);
    let config = Config {
        lease_ttl: Duration::from_secs(6),
        lease_max_ttl: Duration::from_secs(10),
        token_ttl: minute,
        token_max_ttl: minute,
        ..Config::default()
    };
    try_join_all(ways.iter().map(|statements| ended_with(adapter, config.clone(), statements)))
        .await
        .map(drop)
}

/// One lease, whose user is ended with these statements under a load.
async fn ended_with(adapter: &dyn Adapter, config: Config, statements: &[&str]) -> Result<(), Failure> {
    let service = Service::start(adapter, config, 4).await?;
    service.database.revoke_with(statements).await?;
    fill(&service.pool, 4).await?;
    let (current, mut events) = (service.login.current(), service.login.events());
    let load = load(&service.pool, adapter.server(), 100);
    let (mut users, mut revoked) = (HashMap::new(), None);
    until("a lease is revoked", 2 * PATIENCE, || {
        if let Ok(issued) = current.get() {
            users.insert(issued.generation(), issued.secret().username().to_owned());
        }
        while let Ok(event) = events.try_recv() {
            // One that had ended before is none of ours.
            if matches!(event.kind, EventKind::Revoked { .. }) {
                revoked = users.get(&event.generation).cloned();
            }
        }
        let found = revoked.is_some();
        async move { Ok(found) }
    })
    .await?;
    drop(current);
    let user = revoked.unwrap_or_default();
    // A client's goodbye takes a moment to arrive.
    until(&format!("{statements:?}: no session of {user} is left"), Duration::from_secs(1), || async {
        Ok(service.database.sessions_of(&user).await? == 0)
    })
    .await?;
    let measured = load.stop().await;
    if measured.failed > 0 {
        return Err(Failure(format!(
            "{statements:?}: {} of {} failed: {:?}",
            measured.failed, measured.queries, measured.failures
        )));
    }
    service.pool.close().await;
    said(service.login.shutdown().await)?;
    said(service.token.shutdown().await)
}

/// An operator revokes the lease: noticed as early as the adapter says, and then every connection is a new user's.
///
/// # Errors
/// What was not kept.
pub async fn revoked_by_an_operator(adapter: &dyn Adapter) -> Result<(), Failure> {
    let service = Service::start(adapter, long(), 4).await?;
    fill(&service.pool, 4).await?;
    let load = load(&service.pool, adapter.server(), 20);
    service.database.testbed()?.openbao().revoke_prefix("database/creds").await?;
    let within = adapter.abilities().notices_within;
    until("a successor", within, || async {
        Ok(service.login.health().generation.is_some_and(|generation| generation.number() > 1))
    })
    .await?;
    every_connection_answers(&service.pool, adapter.server().read()).await?;
    load.stop().await;
    service.stop().await
}

/// Redis forgets its users in a restart, and OpenBao renews their leases all the same: refused again after that, credentials
/// are replaced, and every connection is a new user's.
///
/// # Errors
/// What was not kept.
pub async fn restarted_without_its_users(adapter: &dyn Adapter) -> Result<(), Failure> {
    if adapter.server() != Server::Redis {
        return Ok(());
    }
    let service = Service::start(adapter, long(), 4).await?;
    fill(&service.pool, 4).await?;
    let load = load(&service.pool, adapter.server(), 20);
    service.database.restart(Duration::ZERO, &[]).await?;
    until("a successor", 2 * PATIENCE, || async {
        Ok(service.login.health().generation.is_some_and(|generation| generation.number() > 1))
    })
    .await?;
    every_connection_answers(&service.pool, adapter.server().read()).await?;
    load.stop().await;
    service.stop().await
}

/// A client, and the token of the testbed's service account.
pub(super) async fn log_in(testbed: &Testbed) -> Result<(Arc<dyn Vault>, Keeper<Token>), Failure> {
    let vault: Arc<dyn Vault> =
        Arc::new(said(Client::builder().address(testbed.openbao().address()).build())?);
    let login = Kubernetes::new(Arc::clone(&vault), testbed.role())
        .mount(testbed.kubernetes_mount())
        .jwt_path(testbed.service_account().token_path());
    let token = said(Keeper::start(login).await)?;
    Ok((vault, token))
}

/// Leases and tokens that outlast a case.
pub(super) fn long() -> Config {
    let hour = Duration::from_secs(3600);
    Config {
        lease_ttl: hour,
        lease_max_ttl: 24 * hour,
        token_ttl: hour,
        token_max_ttl: 24 * hour,
        ..Config::default()
    }
}

/// Leases that can be renewed once, so that a rotation comes every five seconds, under tokens that end after three leases.
fn short() -> Config {
    Config {
        lease_max_ttl: Duration::from_secs(9),
        token_ttl: Duration::from_secs(12),
        token_max_ttl: Duration::from_secs(18),
        ..Config::default()
    }
}

pub(super) fn said<T>(outcome: leasehold_core::Result<T>) -> Result<T, Failure> {
    outcome.map_err(|error| Failure(error.to_string()))
}

const SIZE: usize = 8;
