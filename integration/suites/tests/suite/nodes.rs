//! One of several nodes of OpenBao goes away. Another one leads, and the service does not notice.

use std::time::Duration;

use leasehold_core::EventKind;
use leasehold_suites::{Service, Tally, events, kubernetes, let_pass, vault, wait_until};
use leasehold_testbed::{Config, Nodes, Product, Recorder, Testbed};

const RATE: u32 = 50;

/// Longer than an election on a busy machine, after that what is left of the lease.
const BOUND: Duration = Duration::from_secs(60);

/// A lease that is renewed in its middle, under a token that is not.
fn config() -> Config {
    Config {
        lease_ttl: Duration::from_secs(24),
        lease_max_ttl: Duration::from_secs(600),
        token_ttl: Duration::from_secs(600),
        token_max_ttl: Duration::from_secs(3600),
        report: |line| println!("{line}"),
        ..Config::default()
    }
}

/// The service speaks to each node in turn, as through a load balancer.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_survive_a_killed_leader() {
    if Product::from_env().unwrap() != Product::OpenBao {
        println!("skipped: nodes are OpenBao's");
        return;
    }
    let testbed = Testbed::start(config()).await.unwrap();
    let nodes = Nodes::start(&testbed, 3).await.unwrap();
    let recorder = Recorder::start(nodes.address()).unwrap();
    let vault = vault(&recorder).unwrap();
    let login = kubernetes(&testbed, &vault);
    let service = Service::start_with(testbed, recorder, vault, login).await.unwrap();
    let mut happened = service.login.events();
    let load = service.load(RATE);
    // So that the renewal falls due while nobody leads, or soon after.
    let_pass(Duration::from_secs(9)).await;
    events(&mut happened);
    service.recorder.clear();
    assert_eq!(nodes.leases().await.unwrap().len(), 1);

    let first = nodes.leader().await.unwrap();
    first.kill().await.unwrap();
    let mut seen = Vec::new();
    let elected = wait_until("another node leads", BOUND, || async {
        nodes.leader().await.is_ok_and(|leader| leader.address() != first.address())
    })
    .await
    .unwrap();
    let kept = wait_until("renewed or replaced", BOUND, || {
        seen.extend(events(&mut happened));
        let kept = |event: &EventKind| matches!(event, EventKind::Renewed { .. } | EventKind::Adopted);
        let kept = seen.iter().any(kept);
        async move { kept }
    })
    .await
    .unwrap();
    wait_until("the keepers and the pool are well", BOUND, || service.is_well()).await.unwrap();
    // Past the end that the lease had when the leader was killed.
    let_pass(config().lease_ttl.saturating_sub(elected + kept)).await;
    assert!(service.is_well().await);
    let measured = load.stop().await;
    println!(
        "three nodes took {:?}; killed the leader: another one after {elected:?}, {kept:?} later renewed or replaced; \
         {} of {} queries failed; {}; {seen:?}",
        nodes.took(),
        measured.failed,
        measured.queries,
        Tally::of(&service.recorder.requests())
    );
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    assert!(measured.queries > u64::from(RATE) * 10);
    assert!(!nodes.leases().await.unwrap().is_empty());

    // The node comes back, and the service leaves nothing on any of them.
    first.bring_back().await.unwrap();
    nodes.settle().await.unwrap();
    service.stop().await.unwrap();
    assert_eq!(nodes.leases().await.unwrap(), [""; 0]);
}
