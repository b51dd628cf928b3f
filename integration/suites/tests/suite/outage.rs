//! OpenBao goes away. Open sessions do not care; the keeper recovers by itself.

use std::time::Duration;

use leasehold_core::Status;
use leasehold_suites::{Service, let_pass, wait_until};
use leasehold_testbed::Config;

const RATE: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// SIGSTOP: connections are accepted, and nothing answers.
    Paused,
    /// SIGKILL: connections are refused; then it is started again, sealed, and unsealed.
    Killed,
    Sealed,
}

/// A lease of 8 s under a long token.
fn config() -> Config {
    Config {
        lease_ttl: Duration::from_secs(8),
        lease_max_ttl: Duration::from_secs(600),
        token_ttl: Duration::from_secs(600),
        token_max_ttl: Duration::from_secs(3600),
        ..Config::default()
    }
}

/// Takes OpenBao away for `away`, and returns the queries that failed meanwhile, and afterwards until the keepers are
/// healthy and the pool works.
async fn survive(fault: Fault, away: Duration) -> (u64, u64, Duration) {
    let service = Service::start(config()).await.unwrap();
    let bao = service.testbed.openbao();
    let load = service.load(RATE);
    load.wait_for(20).await;
    service.recorder.clear();
    match fault {
        Fault::Paused => bao.pause().await.unwrap(),
        Fault::Killed => bao.kill().await.unwrap(),
        Fault::Sealed => bao.seal().await.unwrap(),
    }
    let_pass(away).await;
    let meanwhile = load.glance().failed;
    let requests = service.recorder.requests().len();
    // At most one each quarter of a second, which is what the last seconds before the end are worth.
    assert!(requests as f64 <= 4.0 * away.as_secs_f64() + 2.0, "{requests} requests in {away:?}");
    match fault {
        Fault::Paused => bao.resume().await.unwrap(),
        Fault::Killed => bao.start_again().await.unwrap(),
        Fault::Sealed => bao.unseal().await.unwrap(),
    }
    let took = wait_until("healthy again, and queries answered", Duration::from_secs(30), || async {
        let healthy = service.login.health().status == Status::Healthy && service.login.health().is_usable();
        healthy && usable(&service).await
    })
    .await
    .unwrap();
    // Whatever is still to be swept is swept; from here on nothing may fail.
    let old_gone = || async { service.testbed.postgres().orphaned_sessions().await.unwrap() == 0 };
    wait_until("no session of a dropped user", Duration::from_secs(15), old_gone).await.unwrap();
    let failed = load.glance().failed;
    load.wait_for(u64::from(RATE) * 2).await;
    let measured = load.stop().await;
    assert_eq!(measured.failed, failed, "nothing fails once it has recovered: {:?}", measured.failures);
    println!(
        "{fault:?} for {away:?}: {meanwhile} of {} queries failed meanwhile, {} afterwards; recovered {took:?} after the return; {requests} requests",
        measured.queries,
        failed - meanwhile
    );
    service.stop().await.unwrap();
    (meanwhile, failed - meanwhile, took)
}

async fn usable(service: &Service) -> bool {
    sqlx::query_scalar::<_, i64>("SELECT count(*) FROM measurements").fetch_one(&service.pool).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_for_less_than_the_lease_nothing_fails() {
    let (meanwhile, afterwards, _) = survive(Fault::Paused, Duration::from_secs(4)).await;
    assert_eq!((meanwhile, afterwards), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_for_less_than_the_lease_nothing_fails() {
    let (meanwhile, afterwards, _) = survive(Fault::Killed, Duration::from_secs(4)).await;
    assert_eq!((meanwhile, afterwards), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_for_less_than_the_lease_nothing_fails() {
    let (meanwhile, afterwards, _) = survive(Fault::Sealed, Duration::from_secs(4)).await;
    assert_eq!((meanwhile, afterwards), (0, 0));
}

/// When it is back, the server drops the user whose lease has ended, and every session of that user fails real queries
/// until the pool has replaced it. It cannot be fewer than none: the server is faster than any client can be told.
fn assert_bounded(afterwards: u64, took: Duration) {
    let bound = u64::from(RATE) * 10;
    assert!(afterwards <= bound, "{afterwards} queries failed after the return; at most {bound} in 10 s");
    assert!(took < Duration::from_secs(10), "recovered after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_for_longer_than_the_lease_open_sessions_go_on_and_it_recovers() {
    let (meanwhile, afterwards, took) = survive(Fault::Paused, Duration::from_secs(12)).await;
    assert_eq!(meanwhile, 0, "no query on an open session fails while it is away");
    assert_bounded(afterwards, took);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_for_longer_than_the_lease_open_sessions_go_on_and_it_recovers() {
    let (meanwhile, afterwards, took) = survive(Fault::Killed, Duration::from_secs(12)).await;
    assert_eq!(meanwhile, 0, "no query on an open session fails while it is away");
    assert_bounded(afterwards, took);
}
