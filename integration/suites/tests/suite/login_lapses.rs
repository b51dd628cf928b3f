//! OpenBao looks at the JWT of a Kubernetes login again whenever the token is renewed (from 2.6.4 and 2.7.1 on), and refuses
//! once it has expired. A token that lives longer than its JWT must not notice.

use std::{env, sync::Arc, time::Duration};

use leasehold_core::{EventKind, Status};
use leasehold_suites::{Service, events, wait_until};
use leasehold_testbed::{Claims, Config};
use tokio::time::{Instant, interval};

/// How long a JWT holds. The kubelet replaces it when four fifths of that are over.
const JWT: Duration = Duration::from_secs(90);

/// Three lives of a JWT under a token that outlives it: nothing fails. It takes five minutes, so `.ci/run full` runs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_three_of_its_jwts_and_nothing_fails() {
    if env::var_os("LEASEHOLD_LONG").is_none() {
        println!("skipped: set LEASEHOLD_LONG for what takes minutes");
        return;
    }
    let config = Config {
        lease_ttl: Duration::from_secs(60),
        lease_max_ttl: Duration::from_secs(3600),
        token_ttl: Duration::from_secs(120),
        token_max_ttl: Duration::from_secs(3600),
        ..Config::default()
    };
    let service = Arc::new(start(config).await);
    let swaps = tokio::spawn(swap(Arc::clone(&service)));
    let (mut of_token, mut of_login) = (service.token.events(), service.login.events());
    let load = service.load(20);
    let began = Instant::now();
    wait_until("three lives of a JWT", JWT * 4, || async {
        let healthy = |status| status == Status::Healthy;
        assert!(healthy(service.token.health().status), "{:?}", service.token.health());
        assert!(healthy(service.login.health().status), "{:?}", service.login.health());
        began.elapsed() > JWT * 3
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    for event in events(&mut of_token).into_iter().chain(events(&mut of_login)) {
        assert!(!matches!(event, EventKind::Failed { .. }), "{event:?}");
    }
    swaps.abort();
    let _ = swaps.await;
    let logins = service.recorder.count("POST", "/v1/auth/kubernetes/login");
    println!("{logins} logins in three lives of a JWT; {} queries, none failed", measured.queries);
    let service = Arc::into_inner(service).unwrap();
    service.stop().await.unwrap();
}

/// A service whose very first login is with a JWT of this length.
async fn start(config: Config) -> Service {
    let testbed = leasehold_testbed::Testbed::start(config).await.unwrap();
    testbed.service_account().rotate_with(&claims()).unwrap();
    let recorder = testbed.recorder().unwrap();
    let vault = leasehold_suites::vault(&recorder).unwrap();
    let login = leasehold_suites::kubernetes(&testbed, &vault);
    Service::start_with(testbed, recorder, vault, login).await.unwrap()
}

async fn swap(service: Arc<Service>) {
    let mut due = interval(JWT * 4 / 5);
    due.tick().await;
    loop {
        due.tick().await;
        service.testbed.service_account().rotate_with(&claims()).unwrap();
    }
}

fn claims() -> Claims {
    Claims { expires_in: Some(JWT), ..Claims::default() }
}
