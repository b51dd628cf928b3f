//! Each mistake is a clear, typed error within a bound: no hot loop, no panic, no secret in the text.

use std::{sync::Arc, time::Duration};

use leasehold_auth::{GivenToken, Kubernetes, Login};
use leasehold_core::{Error, ErrorKind, Party, Provider, Token, Vault};
use leasehold_renewal::{Builder, Keeper, StartPolicy};
use leasehold_secrets::DatabaseRole;
use leasehold_suites::{Service, kubernetes, let_pass, pool, vault};
use leasehold_testbed::{Claims, Config, Recorder, Testbed};
use leasehold_vault::Client;
use tokio::time::{Instant, timeout};

const BOUND: Duration = Duration::from_secs(10);

struct Stage {
    testbed: Testbed,
    recorder: Recorder,
    vault: Arc<dyn Vault>,
}

impl Stage {
    async fn set() -> Self {
        let testbed = Testbed::start(Config::default()).await.unwrap();
        let recorder = testbed.recorder().unwrap();
        let vault = vault(&recorder).unwrap();
        Self { testbed, recorder, vault }
    }

    fn kubernetes(&self) -> Kubernetes {
        Kubernetes::new(self.vault.clone(), self.testbed.role())
            .jwt_path(self.testbed.service_account().token_path())
    }

    /// The error of a start, which must come in time, after few requests, and without the JWT.
    async fn refusal<P: Provider + 'static>(&self, provider: P) -> Error {
        self.recorder.clear();
        let builder = Builder::new().start_policy(StartPolicy::FailAtOnce);
        let started = timeout(BOUND, builder.start(provider)).await.expect("an answer within the bound");
        let Err(error) = started else { panic!("it was accepted") };
        assert!(self.recorder.requests().len() <= 2, "{:?}", self.recorder.requests());
        let jwt = std::fs::read_to_string(self.testbed.service_account().token_path()).unwrap_or_default();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(jwt.trim().is_empty() || !text.contains(jwt.trim()), "the JWT is in: {text}");
            assert!(!text.contains(self.testbed.openbao().root_token()));
        }
        error
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_cannot_work() {
    let stage = Stage::set().await;
    let account = stage.testbed.service_account();

    let role =
        stage.refusal(Kubernetes::new(stage.vault.clone(), "nobody").jwt_path(account.token_path())).await;
    assert_eq!((role.kind(), role.party()), (ErrorKind::LoginRefused, Party::Vault), "{role}");

    let mount = stage.refusal(stage.kubernetes().mount("nowhere")).await;
    assert!(matches!(mount.kind(), ErrorKind::NotFound | ErrorKind::LoginDoubtful), "{mount}");
    assert!(mount.to_string().contains("auth/nowhere/login"), "{mount}");

    let missing = stage.refusal(stage.kubernetes().jwt_path("/no/such/token")).await;
    assert_eq!((missing.kind(), missing.party()), (ErrorKind::Configuration, Party::File), "{missing}");

    account.rotate_with(&Claims { expires_in: None, ..Claims::default() }).unwrap();
    let expired = stage.refusal(stage.kubernetes()).await;
    assert_eq!(expired.kind(), ErrorKind::LoginRefused, "{expired}");

    account.write_raw("this is no JWT").unwrap();
    let garbage = stage.refusal(stage.kubernetes()).await;
    assert_eq!(garbage.kind(), ErrorKind::Configuration, "{garbage}");
    account.write_raw("thisisnoJWT").unwrap();
    let garbage = stage.refusal(stage.kubernetes()).await;
    // "permission denied", as the server says too when it cannot ask the API server.
    assert_eq!(garbage.kind(), ErrorKind::LoginDoubtful, "{garbage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_cannot_work() {
    let stage = Stage::set().await;
    let dead = stage.refusal(GivenToken::new(stage.vault.clone(), "s.hunter2hunter2")).await;
    assert_eq!(dead.kind(), ErrorKind::DeadToken, "{dead}");
    let broken = stage.refusal(GivenToken::new(stage.vault.clone(), "s.hunter2\nhunter2")).await;
    assert!(matches!(broken.kind(), ErrorKind::Configuration | ErrorKind::DeadToken), "{broken}");
    for error in [dead, broken] {
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_use_is_refused_before_it_costs_a_user() {
    let testbed = Testbed::start(Config { token_num_uses: 1, ..Config::default() }).await.unwrap();
    let recorder = testbed.recorder().unwrap();
    let vault = vault(&recorder).unwrap();
    let token = Keeper::start(kubernetes(&testbed, &vault)).await.unwrap();
    let role = DatabaseRole::new(vault, token.current(), testbed.db_role());
    let at_once = Builder::new().start_policy(StartPolicy::FailAtOnce);
    let error = at_once.start(role).await.unwrap_err();
    assert!(error.kind() == ErrorKind::DeadToken && error.message().contains("token_num_uses"), "{error}");
    assert_eq!(testbed.openbao().leases().await.unwrap().len(), 0);
    token.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_cannot_work() {
    let stage = Stage::set().await;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in [format!("http://127.0.0.1:{port}"), "http://no-such-host.invalid:8200".to_owned()] {
        let vault: Arc<dyn Vault> = Arc::new(Client::builder().address(&address).build().unwrap());
        let error = stage.refusal(kubernetes(&stage.testbed, &vault)).await;
        assert_eq!((error.kind(), error.party()), (ErrorKind::Unreachable, Party::Vault), "{error}");
    }
    for address in ["not an address", "ftp://127.0.0.1", "http://", ""] {
        let error = Client::builder().address(address).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{address}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_cannot_work() {
    let stage = Stage::set().await;
    let login: Login = Box::new(stage.kubernetes());
    let token: Keeper<Token> = Keeper::start(login).await.unwrap();
    let other = stage.refusal(DatabaseRole::new(stage.vault.clone(), token.current(), "other")).await;
    assert_eq!(other.kind(), ErrorKind::Denied, "{other}");
    assert!(
        other.to_string().contains("database/creds/other") && other.to_string().contains("read"),
        "{other}"
    );

    let body = serde_json::json!({});
    stage.testbed.openbao().request("DELETE", "database/roles/pipeline", Some(body)).await.unwrap();
    let gone =
        stage.refusal(DatabaseRole::new(stage.vault.clone(), token.current(), stage.testbed.db_role())).await;
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    token.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_within_a_bound_and_a_lazy_pool_waits_for_it() {
    let stage = Stage::set().await;
    let token = Keeper::start(kubernetes(&stage.testbed, &stage.vault)).await.unwrap();
    let role = DatabaseRole::new(stage.vault.clone(), token.current(), stage.testbed.db_role());
    let login = Keeper::start(role).await.unwrap();
    stage.testbed.postgres().stop().await.unwrap();
    let began = Instant::now();
    // As in sqlx, a database that refuses connections may be starting: it is tried until the acquire timeout.
    let bounded = pool(&stage.testbed).acquire_timeout(Duration::from_secs(3));
    let error = bounded.connect(login.current()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((error.kind(), error.party()), (ErrorKind::DatabaseUnavailable, Party::Database), "{error}");

    let lazy = pool(&stage.testbed).min_connections(0).connect_lazy(login.current()).unwrap();
    stage.testbed.postgres().start_again().await.unwrap();
    let who: String = sqlx::query_scalar("SELECT session_user::text").fetch_one(&lazy).await.unwrap();
    assert_eq!(who, login.current().get().unwrap().secret().username());
    lazy.close().await;
    login.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_second_is_kept_alive_without_a_hot_loop() {
    let second = Duration::from_secs(1);
    let service =
        Service::start(Config { lease_ttl: second, lease_max_ttl: 3 * second, ..Config::default() })
            .await
            .unwrap();
    let load = service.load(50);
    service.recorder.clear();
    let_pass(8 * second).await;
    let requests = service.recorder.requests().len();
    assert!(requests <= 8 * 5, "{requests} requests in 8 s");
    let generation = service.login.current().get().unwrap().generation().number();
    assert!(generation >= 3, "generation {generation}");
    let measured = load.stop().await;
    // There are a few hundred milliseconds to drain; a run on a loaded machine may lose some queries, and says so.
    assert!(
        measured.failed * 50 <= measured.queries,
        "{} of {} failed: {:?}",
        measured.failed,
        measured.queries,
        measured.failures
    );
    service.stop().await.unwrap();
}
