//! The trap and its cure, on real servers.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use leasehold_auth::GivenToken;
use leasehold_core::{Credentials, Token};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_testbed::{Config, Testbed};
use leasehold_vault::Client;
use migrations::MIGRATIONS;
use serde_json::json;
use sqlx::{PgPool, migrate::Migrator};
use tokio::time::{Instant, interval};

/// A service with the role `app`.
struct Service {
    testbed: Testbed,
    token: Keeper<Token>,
    login: Keeper<Credentials>,
    pool: PgPool,
}

impl Service {
    async fn start(testbed: Testbed) -> Self {
        let body = json!({ "policies": ["app"], "ttl": "10m", "no_parent": true });
        let token = testbed.openbao().request("POST", "auth/token/create", Some(body)).await.unwrap();
        let token = token["auth"]["client_token"].as_str().unwrap();
        let vault = Arc::new(Client::builder().address(testbed.openbao().address()).build().unwrap());
        let token = Keeper::start(GivenToken::new(vault.clone(), token)).await.unwrap();
        let login = Keeper::start(DatabaseRole::new(vault, token.current(), "app")).await.unwrap();
        let pool = leasehold_sqlx::Postgres::from_url(testbed.database_url()).unwrap();
        let pool = pool.connect(login.current()).await.unwrap();
        Self { testbed, token, login, pool }
    }

    async fn who(&self) -> String {
        sqlx::query_scalar("SELECT session_user::text").fetch_one(&self.pool).await.unwrap()
    }

    async fn stop(self) -> Testbed {
        self.pool.close().await;
        self.login.shutdown().await.unwrap();
        self.token.shutdown().await.unwrap();
        self.testbed
    }
}

/// A testbed set up by this example's own files.
async fn set_up() -> Testbed {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    testbed.postgres().execute(include_str!("../owner.sql")).await.unwrap();
    let allowed = Some(json!({ "allowed_roles": ["pipeline", "app"] }));
    testbed.openbao().request("POST", "database/config/pipeline-db", allowed).await.unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vault-setup.sh");
    testbed.run_script(script, &[("DEFAULT_TTL", "4s"), ("MAX_TTL", "8s")]).await.unwrap();
    testbed
}

async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let (mut ticks, deadline) =
        (interval(Duration::from_millis(100)), Instant::now() + Duration::from_secs(30));
    while !reached().await {
        assert!(Instant::now() < deadline, "no {what} within 30 s");
        ticks.tick().await;
    }
}

/// The first migration alone.
fn first() -> Migrator {
    let mut first = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    first.migrations.to_mut().truncate(1);
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_user_creates_another_alters_and_all_of_them_go() {
    let service = Service::start(set_up().await).await;
    let creator = service.who().await;
    first().run(&service.pool).await.unwrap();
    until("successor", async || service.who().await != creator).await;
    // By another user, on a table that is there.
    MIGRATIONS.run(&service.pool).await.unwrap();
    sqlx::query("INSERT INTO orders (item, amount) VALUES ('nails', 3)")
        .execute(&service.pool)
        .await
        .unwrap();
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'";
    let owner: String = sqlx::query_scalar(owner).fetch_one(&service.pool).await.unwrap();
    assert_eq!(owner, "app_owner");
    let testbed = service.stop().await;
    until("end of every user", async || testbed.postgres().dynamic_users().await.unwrap().is_empty()).await;
    assert_eq!(testbed.postgres().query("SELECT item FROM orders").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_owner_the_user_owns_its_table_and_cannot_be_dropped() {
    let testbed = set_up().await;
    let everybody_may_create = "GRANT CREATE ON SCHEMA public TO PUBLIC";
    testbed.postgres().execute(everybody_may_create).await.unwrap();
    let trap = json!({
        "db_name": "pipeline-db",
        "creation_statements": [r#"CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}'"#],
        "revocation_statements": [r#"DROP ROLE IF EXISTS "{{name}}""#],
        "default_ttl": "60s",
    });
    testbed.openbao().request("POST", "database/roles/app", Some(trap)).await.unwrap();
    let service = Service::start(testbed).await;
    first().run(&service.pool).await.unwrap();
    let creator = service.who().await;
    let Service { testbed, token, login, pool } = service;
    pool.close().await;
    let refused = login.shutdown().await.unwrap_err();
    assert!(refused.message().contains("some objects depend on it"), "{refused}");
    token.shutdown().await.unwrap();
    assert_eq!(
        testbed.openbao().leases_of("app").await.unwrap().len(),
        1,
        "the server tries again and again"
    );
    assert_eq!(testbed.postgres().dynamic_users().await.unwrap(), [creator]);
}
