//! MariaDB with the statement of the classic tutorial: one `GRANT` that makes the user, and what the plugin does to end it.

use std::time::Duration;

use leasehold_core::EventKind;
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_suites::{events, kubernetes, vault, wait_until};
use leasehold_testbed::{Config, MariaDb, Testbed, load::Load};
use serde_json::json;
use sqlx::{MySqlPool, mysql::MySqlConnectOptions};

#[tokio::test(flavor = "multi_thread")]
async fn the_classic_grant_rotates_without_a_failed_query_and_leaves_nobody() {
    let config = Config {
        mariadb: true,
        lease_ttl: Duration::from_secs(4),
        lease_max_ttl: Duration::from_secs(8),
        ..Config::default()
    };
    let testbed = Testbed::start(config).await.unwrap();
    let mariadb = testbed.mariadb().unwrap();
    prepare(&testbed, mariadb).await;
    let recorder = testbed.recorder().unwrap();
    let vault = vault(&recorder).unwrap();
    let token = Keeper::start(kubernetes(&testbed, &vault)).await.unwrap();
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), mariadb.role())).await.unwrap();
    let options = MySqlConnectOptions::new().host(mariadb.host()).port(mariadb.port()).database("pipeline");
    let pool = leasehold_sqlx::MySql::new(options)
        .min_connections(4)
        .max_connections(4)
        .prove_with("SELECT count(*) FROM runs")
        .connect(login.current())
        .await
        .unwrap();
    let (mut happened, load) = (login.events(), load(&pool));
    let (mut seen, mut users) = (Vec::new(), Vec::new());
    wait_until("three rotations", Duration::from_secs(30), || {
        seen.extend(events(&mut happened));
        let user = login.current().get().unwrap().secret().username().to_owned();
        if !users.contains(&user) {
            users.push(user);
        }
        let adopted = seen.iter().filter(|event| matches!(event, EventKind::Adopted)).count();
        async move { adopted >= 3 }
    })
    .await
    .unwrap();
    // The whole life of the first: dropped, and its sessions, which would go on writing, were closed before.
    wait_until("the first user is gone", Duration::from_secs(10), || async {
        !mariadb.dynamic_users().await.unwrap().contains(&users[0])
            && mariadb.sessions_of(&users[0]).await.unwrap() == 0
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    println!("{} users, {} of {} queries failed", users.len(), measured.failed, measured.queries);
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    assert!(users.len() >= 3 && measured.queries > 300, "{users:?}");
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs").fetch_one(&pool).await.unwrap();
    assert_eq!(u64::try_from(runs).unwrap(), measured.queries, "each wrote one");
    pool.close().await;
    login.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
    wait_until("no lease, user, right or session is left", Duration::from_secs(10), || async {
        let leases = testbed.openbao().leases_of(mariadb.role()).await.unwrap().len();
        let rights = mariadb.query("SELECT user FROM mysql.db WHERE user LIKE 'v-%'").await.unwrap().len();
        leases + rights == 0
            && mariadb.dynamic_users().await.unwrap().is_empty()
            && mariadb.orphaned_sessions().await.unwrap() == 0
    })
    .await
    .unwrap();
}

/// A database, rights that its administrator may pass on, and a role that says no more than the tutorial does. So the plugin
/// ends users in its own way, `REVOKE ALL PRIVILEGES, GRANT OPTION` and `DROP USER`, before which it looks whether they are
/// there: without `SELECT` on `mysql.user` each revocation fails with 1142, and no user ever goes.
async fn prepare(testbed: &Testbed, mariadb: &MariaDb) {
    mariadb
        .execute(
            "CREATE DATABASE pipeline;
             CREATE TABLE pipeline.runs (id bigint PRIMARY KEY AUTO_INCREMENT);
             GRANT ALL ON pipeline.* TO 'vault_admin'@'%' WITH GRANT OPTION;
             GRANT SELECT ON mysql.user TO 'vault_admin'@'%'",
        )
        .await
        .unwrap();
    let path = format!("database/roles/{}", mariadb.role());
    let mut role = testbed.openbao().request("GET", &path, None).await.unwrap()["data"].take();
    role["creation_statements"] =
        json!(["GRANT ALL ON pipeline.* TO '{{name}}'@'%' IDENTIFIED BY '{{password}}'"]);
    role["revocation_statements"] = json!([]);
    testbed.openbao().request("POST", &path, Some(role)).await.unwrap();
}

fn load(pool: &MySqlPool) -> Load {
    let pool = pool.clone();
    Load::start(40, move || {
        let pool = pool.clone();
        async move { sqlx::query("INSERT INTO runs () VALUES ()").execute(&pool).await.map(drop) }
    })
}
