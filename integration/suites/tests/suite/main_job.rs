//! Token and credentials are renewed and replaced under a pool, and no query fails.

use std::time::Duration;

use leasehold_core::EventKind;
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_suites::{Service, events, kubernetes, load, nothing_left, pool, vault, wait_until};
use leasehold_testbed::{Config, Recorder, Testbed};
use sqlx::PgPool;

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn three_rotations_and_two_tokens_without_a_failed_query_and_nothing_left() {
    let service = Service::start(Config::default()).await.unwrap();
    let mut happened = service.login.events();
    let load = service.load(100);
    let mut adopted = 0;
    let mut seen = Vec::new();
    wait_until("three rotations under two tokens", BOUND, || {
        seen.extend(events(&mut happened));
        adopted = seen.iter().filter(|event| matches!(event, EventKind::Adopted)).count();
        let tokens = service.token.current().get().unwrap().generation().number();
        async move { adopted >= 3 && tokens >= 2 }
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    service.account("token max TTL and lease max TTL under load", &measured, 3.0);
    assert!(measured.queries > 500);
    assert!(seen.iter().any(|event| matches!(event, EventKind::Retired { remaining: Some(0) })));
    assert!(seen.iter().any(|event| matches!(event, EventKind::Revoked { alone: true })));
    assert!(seen.iter().any(|event| matches!(event, EventKind::Renewed { truncated: false, .. })));
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_outlives_every_other_variable_goes_on_rotating() {
    async fn build(testbed: &Testbed, recorder: &Recorder) -> PgPool {
        let vault = vault(recorder).unwrap();
        let token = Keeper::start(kubernetes(testbed, &vault)).await.unwrap();
        let login =
            Keeper::start(DatabaseRole::new(vault, token.current(), testbed.db_role())).await.unwrap();
        pool(testbed).connect(login.current()).await.unwrap()
    }
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let recorder = testbed.recorder().unwrap();
    let pool = build(&testbed, &recorder).await;
    let first: String = sqlx::query_scalar("SELECT session_user::text").fetch_one(&pool).await.unwrap();
    let load = load(&pool, 100);
    wait_until("two users later", BOUND, || async {
        let now: String = sqlx::query_scalar("SELECT session_user::text").fetch_one(&pool).await.unwrap();
        now != first && testbed.postgres().sessions_of(&first).await.unwrap() == 0
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    // Closing the pool ends the last reader; the keepers then give back what they have.
    pool.close().await;
    nothing_left(&testbed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_pool_connects_when_it_is_used() {
    let testbed = Testbed::start(Config::default()).await.unwrap();
    let recorder = testbed.recorder().unwrap();
    let vault = vault(&recorder).unwrap();
    let token = Keeper::start(kubernetes(&testbed, &vault)).await.unwrap();
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), testbed.db_role())).await.unwrap();
    let lazy = pool(&testbed).min_connections(0).connect_lazy(login.current()).unwrap();
    let user = login.current().get().unwrap().secret().username().to_owned();
    assert_eq!(lazy.size(), 0);
    let who: String = sqlx::query_scalar("SELECT session_user::text").fetch_one(&lazy).await.unwrap();
    assert_eq!(who, user);
    lazy.close().await;
    login.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
    nothing_left(&testbed).await.unwrap();
}
