//! Users that migrate and go, with and without a role that owns what they made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::{future::Future, sync::Arc, time::Duration};

use leasehold_auth::Kubernetes;
use leasehold_core::{Credentials, Token};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_sqlx::Postgres;
use leasehold_testbed::{Claims, Config, Testbed};
use leasehold_vault::Client;
use migrations::MIGRATIONS;
use serde_json::json;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::{
    process::Command,
    time::{Instant, interval},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_made_for_itself_keeps_it_from_being_dropped() {
    let stage = Stage::set().await;
    // As vault-setup.sh writes it, but for the statement that makes the owner the owner.
    let creation = r#"CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_owner"#;
    let role = json!({
        "db_name": "migrations",
        "creation_statements": [creation],
        "revocation_statements": [r#"DROP ROLE IF EXISTS "{{name}}""#],
        "default_ttl": "3s",
        "max_ttl": "6s",
    });
    let bao = stage.testbed.openbao();
    bao.request("POST", "database/roles/migrations", Some(role)).await.unwrap();

    let service = stage.start().await;
    MIGRATIONS.run_to(1, &service.pool).await.unwrap();
    let user = service.user().await;
    assert_eq!(stage.owner().await, user);

    let lease = bao.leases_of("migrations").await.unwrap().remove(0);
    let revoke = || bao.request("PUT", "sys/leases/revoke", Some(json!({ "lease_id": lease, "sync": true })));
    let refused = revoke().await.unwrap_err().to_string();
    assert!(refused.contains("cannot be dropped because some objects depend on it"), "{refused}");
    // The service sees nothing of it: OpenBao says that it will revoke the lease, and fails later.
    service.stop().await;

    // The next user finds a table that it may neither read nor alter, sqlx's own list of migrations first. It owns
    // nothing, so it goes, while the lease of the first is past its end, and kept, to be tried again.
    let next = stage.start().await;
    let refused = MIGRATIONS.run(&next.pool).await.unwrap_err().to_string();
    assert!(refused.contains("permission denied for table _sqlx_migrations"), "{refused}");
    next.stop().await;
    until("only the user that owns something is left", 20, async || stage.users().await == [user.as_str()])
        .await;
    assert_eq!(bao.leases_of("migrations").await.unwrap(), [lease.as_str()]);

    // What an operator has to do; OpenBao's own next attempt may be half a minute away.
    let reassign = format!(r#"REASSIGN OWNED BY "{user}" TO app_owner"#);
    stage.testbed.postgres().execute(&reassign).await.unwrap();
    revoke().await.unwrap();
    assert_eq!(stage.users().await, [""; 0]);
    assert_eq!(bao.leases_of("migrations").await.unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_owns_outlives_the_users_that_made_it() {
    let stage = Stage::set().await;
    let first = stage.start().await;
    MIGRATIONS.run_to(1, &first.pool).await.unwrap();
    assert_eq!(stage.owner().await, "app_owner");
    let made_it = first.user().await;
    first.stop().await;
    until("who made it is gone", 10, async || stage.users().await.is_empty()).await;

    // A release later, another user alters the table, and reads and writes what the first wrote.
    let token = stage.log_in().await;
    let login = stage.issue(&token).await;
    let pool = migrations::open(stage.testbed.database_url(), login.current()).await.unwrap();
    let second = Service { token, login, pool };
    assert_ne!(second.user().await, made_it);
    let notes = sqlx::query_scalar("UPDATE orders SET note = 'seen' RETURNING note");
    let notes: Vec<String> = notes.fetch_all(&second.pool).await.unwrap();
    assert_eq!(notes, ["seen"]);
    second.stop().await;

    // The program does the same, and leaves nobody either.
    let mut program = Command::new(env!("CARGO_BIN_EXE_migrations"));
    // The testbed names a role of its own, and what the environment names comes first.
    program.envs(stage.testbed.environment()).env("VAULT_ROLE", "migrations");
    let output = program.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with(" counts 1 orders, in a table of app_owner's\n"), "{said}");
    until("nobody is left", 10, async || stage.users().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_the_middle_does_not_break_a_migration() {
    let stage = Stage::set().await;
    let first = stage.start().await;
    MIGRATIONS.run_to(1, &first.pool).await.unwrap();
    let user = first.user().await;

    // Somebody holds the table, so the second migration waits until they let it go.
    let mut holder = PgConnection::connect(&stage.testbed.postgres().superuser_url()).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    sqlx::query("LOCK TABLE orders IN ACCESS SHARE MODE").execute(&mut *held).await.unwrap();
    let pool = first.pool.clone();
    let migrating = tokio::spawn(async move { MIGRATIONS.run(&pool).await });
    let waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass";
    until("it waits", 10, async || !stage.testbed.postgres().query(waiting).await.unwrap().is_empty()).await;
    // Even the end of its lease does not end it: a session that began as the owner goes on as the owner.
    until("its user is dropped", 30, async || !stage.users().await.contains(&user)).await;
    assert!(!migrating.is_finished());
    held.rollback().await.unwrap();
    migrating.await.unwrap().unwrap();

    sqlx::query("SELECT note FROM orders").fetch_one(&first.pool).await.unwrap();
    assert_ne!(first.user().await, user);
    first.stop().await;
    until("nobody is left", 10, async || stage.users().await.is_empty()).await;
}

/// Servers on which an operator has run `owner.sql` and `vault-setup.sh`.
struct Stage {
    testbed: Testbed,
    vault: Arc<Client>,
}

/// What a service holds: everything of `main.rs`.
struct Service {
    token: Keeper<Token>,
    login: Keeper<Credentials>,
    pool: PgPool,
}

impl Stage {
    async fn set() -> Self {
        let testbed = Testbed::start(Config::default()).await.unwrap();
        let postgres = testbed.postgres();
        postgres.execute(include_str!("../owner.sql")).await.unwrap();
        postgres.execute("ALTER ROLE vault_admin PASSWORD 'for-vault-alone'").await.unwrap();
        let address = format!("{}:{}/{}", postgres.host(), postgres.port(), postgres.database());
        let variables = [
            ("DATABASE_ADDRESS", address.as_str()),
            ("DATABASE_ADMIN_PASSWORD", "for-vault-alone"),
            ("DATABASE_SSLMODE", "disable"),
            ("LEASE_TTL", "3s"),
            ("LEASE_MAX_TTL", "8s"),
        ];
        vault_setup(&testbed, &variables).await;
        let account =
            Claims { name: "migrations".to_owned(), audience: "vault".to_owned(), ..Claims::default() };
        testbed.service_account().rotate_with(&account).unwrap();
        let vault = Arc::new(Client::builder().address(testbed.openbao().address()).build().unwrap());
        Self { testbed, vault }
    }

    async fn log_in(&self) -> Keeper<Token> {
        let jwt = self.testbed.service_account().token_path();
        Keeper::start(Kubernetes::new(self.vault.clone(), "migrations").jwt_path(jwt)).await.unwrap()
    }

    async fn issue(&self, token: &Keeper<Token>) -> Keeper<Credentials> {
        let role = DatabaseRole::new(self.vault.clone(), token.current(), "migrations");
        Keeper::start(role).await.unwrap()
    }

    /// A service that has not migrated yet.
    async fn start(&self) -> Service {
        let token = self.log_in().await;
        let login = self.issue(&token).await;
        let pool = Postgres::from_url(self.testbed.database_url()).unwrap().max_connections(4);
        let pool = pool.connect(login.current()).await.unwrap();
        Service { token, login, pool }
    }

    /// The users that were made and not dropped.
    async fn users(&self) -> Vec<String> {
        self.testbed.postgres().dynamic_users().await.unwrap()
    }

    async fn owner(&self) -> String {
        let sql = "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'";
        let rows = self.testbed.postgres().query(sql).await.unwrap();
        rows.into_iter().flatten().flatten().collect()
    }
}

impl Service {
    async fn user(&self) -> String {
        sqlx::query_scalar("SELECT session_user::text").fetch_one(&self.pool).await.unwrap()
    }

    async fn stop(self) {
        self.pool.close().await;
        self.login.shutdown().await.unwrap();
        self.token.shutdown().await.unwrap();
    }
}

/// Runs the script as an operator does; `vault` is the testbed's client, as root.
async fn vault_setup(testbed: &Testbed, variables: &[(&str, &str)]) {
    testbed.run_script("vault-setup.sh", variables).await.unwrap();
}

async fn until<F: Future<Output = bool>>(what: &str, seconds: u64, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut look = interval(Duration::from_millis(50));
    while !holds().await {
        assert!(Instant::now() < deadline, "waited {seconds} s in vain: {what}");
        look.tick().await;
    }
}
