//! What the token is allowed.

use std::time::Duration;

use leasehold_core::EventKind;
use leasehold_suites::{Service, events, wait_until};
use leasehold_testbed::Config;

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_to_revoke_leases_it_asks_once_and_nothing_is_left_all_the_same() {
    let service = Service::start(Config { revoke_allowed: false, ..Config::default() }).await.unwrap();
    let mut happened = service.login.events();
    let load = service.load(50);
    let mut seen = Vec::new();
    wait_until("two leases given up", Duration::from_secs(60), || {
        seen.extend(events(&mut happened));
        let given_up =
            seen.iter().filter(|event| matches!(event, EventKind::Revoked { alone: false })).count();
        async move { given_up >= 2 }
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    service.account("policy without sys/leases/revoke", &measured, 2.0);
    let asked = service.recorder.count("PUT", "/v1/sys/leases/revoke")
        + service.recorder.count("POST", "/v1/sys/leases/revoke");
    let tokens = service.token.current().get().unwrap().generation().number();
    assert!(asked >= 1 && asked as u64 <= tokens, "asked {asked} times under {tokens} tokens");
    // The token's revoke-self takes its leases along.
    service.stop().await.unwrap();
}
