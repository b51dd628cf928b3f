//! Somebody revokes what is in use.

use std::time::Duration;

use leasehold_suites::{Service, wait_until};
use leasehold_testbed::Config;
use serde_json::json;

const RATE: u32 = 50;

fn config() -> Config {
    Config {
        lease_ttl: Duration::from_secs(20),
        lease_max_ttl: Duration::from_secs(600),
        token_ttl: Duration::from_secs(600),
        token_max_ttl: Duration::from_secs(3600),
        ..Config::default()
    }
}

/// The server drops the user at once, so queries fail from that moment until it is noticed, by the canary (every two
/// seconds) or at the next renewal, and the pool refuses what that user opened. sqlx shows nobody a failed query, so it
/// cannot be sooner.
async fn recovers(revoke: impl AsyncFnOnce(&Service)) {
    let service = Service::start(config()).await.unwrap();
    let load = service.load(RATE);
    load.wait_for(20).await;
    service.recorder.clear();
    let before = service.login.current().get().unwrap();
    let user = before.secret().username().to_owned();
    let generation = before.generation();
    drop(before);
    revoke(&service).await;
    let took = wait_until("a new generation in every connection", Duration::from_secs(8), || async {
        service.login.current().get().unwrap().generation() > generation
            && service.testbed.postgres().orphaned_sessions().await.unwrap() == 0
            && service.testbed.postgres().sessions_of(&user).await.unwrap() == 0
    })
    .await
    .unwrap();
    let failed = load.glance().failed;
    load.wait_for(u64::from(RATE) * 2).await;
    let measured = load.stop().await;
    assert_eq!(measured.failed, failed, "nothing fails once it has recovered: {:?}", measured.failures);
    assert!(failed <= u64::from(RATE) * (took.as_secs() + 2), "{failed} failed in {took:?}");
    let requests = service.recorder.requests().len();
    println!(
        "{failed} of {} queries failed; recovered after {took:?}; {requests} requests",
        measured.queries
    );
    assert!(requests < 40, "{requests} requests to recover: {:?}", service.recorder.requests());
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_lease_is_noticed_and_replaced() {
    recovers(async |service: &Service| {
        service.testbed.openbao().revoke_prefix("database/creds/pipeline").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_noticed_and_everything_below_it_replaced() {
    recovers(async |service: &Service| {
        let token = service.token.current().get().unwrap();
        let accessor = token.secret().accessor().unwrap();
        let body = json!({ "accessor": accessor });
        service.testbed.openbao().request("POST", "auth/token/revoke-accessor", Some(body)).await.unwrap();
    })
    .await;
}
