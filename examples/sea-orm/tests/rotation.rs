//! Queries succeed before, during and after rotations.

use std::sync::Arc;

use anyhow::{Result, ensure};
use leasehold_auth::Kubernetes;
use leasehold_core::EventKind;
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_testbed::{Config, Testbed};
use leasehold_vault::Client;
use sea_orm::{ConnectionTrait, DatabaseConnection, EntityTrait, PaginatorTrait, Statement};
use sea_orm_sqlx::{connect, measurement};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_go_on_through_rotations() -> Result<()> {
    let testbed = Testbed::start(Config::default()).await?;
    let vault = Arc::new(Client::builder().address(testbed.openbao().address()).build()?);
    let service_account = Kubernetes::new(vault.clone(), testbed.role())
        .mount(testbed.kubernetes_mount())
        .jwt_path(testbed.service_account().token_path());
    let token = Keeper::start(service_account).await?;
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), testbed.db_role())).await?;
    let mut events = login.events();
    let postgres = testbed.postgres();
    let url = format!("postgres://{}:{}/{}", postgres.host(), postgres.port(), postgres.database());
    let database = connect(&url, login.current()).await?;

    let first = user(&database).await?;
    let mut retired = 0;
    while retired < 2 {
        ensure!(measurement::Entity::find().count(&database).await? == 100);
        while let Ok(event) = events.try_recv() {
            retired += usize::from(matches!(event.kind, EventKind::Retired { remaining: Some(0) }));
        }
    }
    ensure!(user(&database).await? != first, "{first} still answers");
    ensure!(measurement::Entity::find_by_id(7).one(&database).await?.is_some());

    database.close().await?;
    login.shutdown().await?;
    token.shutdown().await?;
    ensure!(testbed.openbao().leases().await?.is_empty() && testbed.openbao().tokens().await?.is_empty());
    Ok(())
}

async fn user(database: &DatabaseConnection) -> Result<String> {
    let sql = "SELECT session_user::text AS name";
    let row = database.query_one_raw(Statement::from_string(database.get_database_backend(), sql)).await?;
    let row = row.ok_or_else(|| anyhow::anyhow!("no row"))?;
    Ok(row.try_get("", "name")?)
}
