//! Every way in which credentials can end, or threaten to, and what it costs: queries and requests.
//!
//! No query fails where the credentials never died. Elsewhere the server drops their user before any client can know, and
//! each test says how many queries failed, and why they could not be fewer.

use std::time::Duration;

use leasehold_core::{Error, ErrorKind, Event, EventKind, Generation, Party};
use leasehold_suites::{
    CREDENTIALS, Service, TOKEN, Tally, events, let_pass, one_attempt_per_step, wait_until,
};
use leasehold_testbed::{Config, load::Load};
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, timeout},
};

const RATE: u32 = 40;

/// Credentials of so many seconds unless renewed, which they can be for long, under a long token.
fn config(lease: u64) -> Config {
    Config {
        lease_ttl: Duration::from_secs(lease),
        lease_max_ttl: Duration::from_secs(3600),
        token_ttl: Duration::from_secs(1800),
        token_max_ttl: Duration::from_secs(3600),
        ..Config::default()
    }
}

/// A service under load, and everything that happens to it from the beginning of an incident.
struct Incident {
    service: Service,
    load: Load,
    of_login: Receiver<Event>,
    of_token: Receiver<Event>,
    began: Instant,
    generation: Generation,
    user: String,
}

/// What it came to.
struct Outcome {
    failed: u64,
    tally: Tally,
    /// Failed attempts of the keeper of the credentials.
    attempts: usize,
    happened: Vec<EventKind>,
    service: Service,
}

impl Incident {
    /// The incident begins as soon as some queries have been answered.
    async fn prepare(config: Config) -> Self {
        let service = Service::start(config).await.unwrap();
        let load = service.load(RATE);
        load.wait_for(10).await;
        let issued = service.login.current().get().unwrap();
        let (generation, user) = (issued.generation(), issued.secret().username().to_owned());
        drop(issued);
        service.recorder.clear();
        let (of_login, of_token) = (service.login.events(), service.token.events());
        Self { service, load, of_login, of_token, began: Instant::now(), generation, user }
    }

    fn failed(&self) -> u64 {
        self.load.glance().failed
    }

    /// Waits until everything works again, and no session of a dropped user is left.
    async fn is_over(&self, bound: Duration) -> Duration {
        let service = &self.service;
        wait_until("both keepers are content, and the pool works", bound, || async {
            // A query that hangs is as bad as one that fails.
            let well = timeout(Duration::from_secs(2), service.is_well()).await == Ok(true);
            well && service.testbed.postgres().orphaned_sessions().await.is_ok_and(|left| left == 0)
        })
        .await
        .unwrap_or_else(|error| {
            panic!(
                "{error}: {:?} {:?} {:#?}",
                service.login.health(),
                service.token.health(),
                service.recorder.requests()
            )
        })
    }

    /// Makes sure that nothing fails any more and that each request was worth it, says in a line what it came to, and
    /// hands back what is left.
    async fn assess(mut self, what: &str, took: Duration) -> Outcome {
        let failed = self.failed();
        let requests = self.service.recorder.requests();
        let (happened, of_token) = (events(&mut self.of_login), events(&mut self.of_token));
        let lasted = self.began.elapsed();
        self.load.wait_for(u64::from(RATE)).await;
        let measured = self.load.stop().await;
        let tally = Tally::of(&requests);
        println!(
            "{what}: {failed} of {} queries failed, the slowest took {:.1?}; recovered after {took:.1?}; {tally} in {lasted:.1?}",
            measured.queries, measured.max
        );
        assert_eq!(measured.failed, failed, "nothing fails once it is over: {:?}", measured.failures);
        let attempts = one_attempt_per_step(&requests, CREDENTIALS, &happened).unwrap();
        one_attempt_per_step(&requests, TOKEN, &of_token).unwrap();
        assert_eq!(
            tally.lookups, tally.denied,
            "one lookup-self after each 403, and never else: {requests:#?}"
        );
        // The steps begin at 0.25 to 0.5 s and double; as an end nears they are a few to the second.
        assert!(
            tally.total() <= 15 + 2 * usize::try_from(lasted.as_secs()).unwrap(),
            "{tally} in {lasted:?}: {requests:#?}"
        );
        Outcome { failed, tally, attempts, happened, service: self.service }
    }
}

fn failures(happened: &[EventKind]) -> impl Iterator<Item = &Error> {
    happened.iter().filter_map(|event| match event {
        EventKind::Failed { error, .. } => Some(error),
        _ => None,
    })
}

fn rejections(happened: &[EventKind]) -> usize {
    happened.iter().filter(|event| matches!(event, EventKind::Rejected { .. })).count()
}

// ---------------------------------------------------------------------------------------------------- a token's max TTL

/// F1: the lease has an hour left when the token reaches its max TTL, and goes with it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_at_its_max_ttl_is_succeeded_before_it_takes_a_long_lease_along() {
    let config =
        Config { token_ttl: Duration::from_secs(6), token_max_ttl: Duration::from_secs(10), ..config(1800) };
    let incident = Incident::prepare(config).await;
    let first = incident.user.clone();
    let service = &incident.service;
    let took = wait_until("a third token, and credentials under it", Duration::from_secs(30), || async {
        service.token.current().get().unwrap().generation().number() >= 3
            && service.login.current().get().unwrap().generation().number() >= 3
            && service.testbed.postgres().sessions_of(&first).await.unwrap() == 0
    })
    .await
    .unwrap();
    let outcome = incident.assess("token at its max TTL, twice", took).await;
    assert_eq!((outcome.failed, outcome.attempts), (0, 0));
    let Tally { issues, logins, renewals, .. } = outcome.tally;
    assert!(issues == logins && logins <= 3, "one login and one issue each: {}", outcome.tally);
    assert_eq!(renewals, 0, "a lease that ends with its token gains nothing: {}", outcome.tally);
    outcome.service.stop().await.unwrap();
}

// ------------------------------------------------------------------------------------------------------ max TTL of leases

/// F5: each renewal that is cut short is the last of its lease; the successor is there while the lease lives.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_renewal_is_the_last_of_its_lease() {
    let incident = Incident::prepare(Config { lease_max_ttl: Duration::from_secs(8), ..config(6) }).await;
    let service = &incident.service;
    let took = wait_until("the fourth generation in every connection", Duration::from_secs(30), || async {
        let now = service.login.current().get().unwrap();
        now.generation().number() >= 4
            && service.testbed.postgres().sessions_of(now.secret().username()).await.unwrap() >= 4
    })
    .await
    .unwrap();
    let outcome = incident.assess("truncated renewals, three times", took).await;
    assert_eq!((outcome.failed, outcome.attempts), (0, 0));
    let mut cut = false;
    for event in &outcome.happened {
        match event {
            EventKind::Renewed { truncated, .. } => {
                assert!(!cut, "renewed once more after it was cut short: {:?}", outcome.happened);
                cut = *truncated;
            }
            EventKind::Issued { .. } => {
                assert!(cut, "issued for another reason: {:?}", outcome.happened);
                cut = false;
            }
            _ => {}
        }
    }
    let Tally { issues, renewals, logins, .. } = outcome.tally;
    assert!(issues == 3 && renewals <= 2 * issues + 1 && logins == 0, "{}", outcome.tally);
    outcome.service.stop().await.unwrap();
}

// ------------------------------------------------------------------------------------------------------------------ sealed

#[tokio::test(flavor = "multi_thread")]
async fn sealed_within_the_lease_and_unsealed() {
    let incident = Incident::prepare(config(18)).await;
    let bao = incident.service.testbed.openbao();
    bao.seal().await.unwrap();
    // The first comes when a quarter to six tenths of the lease are over.
    wait_until("two failed attempts", Duration::from_secs(14), || async {
        incident.service.recorder.requests().len() >= 2
    })
    .await
    .unwrap();
    assert_eq!(incident.failed(), 0);
    bao.unseal().await.unwrap();
    let took = incident.is_over(Duration::from_secs(6)).await;
    let outcome = incident.assess("sealed within a lease of 18 s", took).await;
    assert_eq!(outcome.failed, 0);
    assert!(outcome.attempts >= 2, "{:?}", outcome.happened);
    assert!(failures(&outcome.happened).all(|error| error.kind() == ErrorKind::Sealed));
    outcome.service.stop().await.unwrap();
}

/// The lease ends while OpenBao is sealed. It can drop nobody meanwhile, so queries go on; when it is unsealed it drops the
/// user at once, before anybody is told, and queries fail until the pool has replaced its connections.
#[tokio::test(flavor = "multi_thread")]
async fn sealed_beyond_the_lease_and_unsealed() {
    let incident = Incident::prepare(config(8)).await;
    let bao = incident.service.testbed.openbao();
    bao.seal().await.unwrap();
    wait_until("the end of the lease", Duration::from_secs(10), || async {
        !incident.service.login.health().is_usable()
    })
    .await
    .unwrap();
    incident.load.wait_for(u64::from(RATE) * 4).await;
    assert_eq!(incident.failed(), 0, "open sessions go on");
    assert!(!incident.service.login.health().is_usable(), "{:?}", incident.service.login.health());
    bao.unseal().await.unwrap();
    let took = incident.is_over(Duration::from_secs(10)).await;
    let outcome = incident.assess("sealed beyond a lease of 8 s", took).await;
    assert!(outcome.failed <= u64::from(RATE) * (took.as_secs() + 1), "{} in {took:?}", outcome.failed);
    outcome.service.stop().await.unwrap();
}

// ------------------------------------------------------------------------------------------------------- the role in Vault

async fn role(service: &Service) -> Value {
    service.testbed.openbao().request("GET", ROLE, None).await.unwrap()["data"].clone()
}

async fn delete_role(service: &Service) {
    service.testbed.openbao().request("DELETE", ROLE, None).await.unwrap();
}

async fn create_role(service: &Service, role: Value) {
    service.testbed.openbao().request("POST", ROLE, Some(role)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_deleted_and_recreated_within_the_lease() {
    let incident = Incident::prepare(config(20)).await;
    let role = role(&incident.service).await;
    delete_role(&incident.service).await;
    // The first renewal comes after 10 to 12 s. It fails, and so does an issue.
    let_pass(Duration::from_secs(13)).await;
    create_role(&incident.service, role).await;
    let took = incident.is_over(Duration::from_secs(8)).await;
    let generation = incident.generation;
    let outcome = incident.assess("role gone for 13 s, lease of 20 s", took).await;
    assert_eq!(outcome.failed, 0, "{:#?}", outcome.happened);
    assert!(outcome.service.login.current().get().unwrap().generation() > generation);
    let kinds: Vec<ErrorKind> = failures(&outcome.happened).map(Error::kind).collect();
    assert!(kinds.contains(&ErrorKind::NotFound), "said for what it is: {kinds:?}");
    outcome.service.stop().await.unwrap();
}

/// Nobody can issue or renew anything for a role that is not there, so the lease ends and OpenBao drops the user. Queries
/// fail from then until the role is back and tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_deleted_and_recreated_beyond_the_lease() {
    let incident = Incident::prepare(config(6)).await;
    let role = role(&incident.service).await;
    delete_role(&incident.service).await;
    let_pass(Duration::from_secs(11)).await;
    let meanwhile = incident.failed();
    create_role(&incident.service, role).await;
    let took = incident.is_over(Duration::from_secs(20)).await;
    let outcome = incident.assess("role gone for 11 s, lease of 6 s", took).await;
    assert!(meanwhile <= u64::from(RATE) * 6, "{meanwhile} failed in the 5 to 6 s without a user");
    let bound = u64::from(RATE) * (took.as_secs() + 1);
    assert!(outcome.failed - meanwhile <= bound, "{} in {took:?}", outcome.failed - meanwhile);
    outcome.service.stop().await.unwrap();
}

// ---------------------------------------------------------------------------------------------------------- the policy

/// `default` allows renewals too, so they are denied by name.
async fn take_policy_away(service: &Service) -> Value {
    let bao = service.testbed.openbao();
    let before = bao.request("GET", POLICY, None).await.unwrap()["data"]["policy"].clone();
    let deny = r#"path "database/creds/pipeline" { capabilities = ["deny"] }
        path "sys/leases/renew" { capabilities = ["deny"] }"#;
    bao.request("PUT", POLICY, Some(json!({ "policy": deny }))).await.unwrap();
    before
}

async fn give_policy_back(service: &Service, policy: Value) {
    service.testbed.openbao().request("PUT", POLICY, Some(json!({ "policy": policy }))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_taken_away_and_given_back_within_the_lease() {
    let incident = Incident::prepare(config(20)).await;
    let token = incident.service.token.current().get().unwrap().generation();
    let policy = take_policy_away(&incident.service).await;
    let_pass(Duration::from_secs(13)).await;
    give_policy_back(&incident.service, policy).await;
    let took = incident.is_over(Duration::from_secs(8)).await;
    let outcome = incident.assess("policy gone for 13 s, lease of 20 s", took).await;
    assert_eq!(outcome.failed, 0, "{:#?}", outcome.happened);
    assert!(
        outcome.attempts >= 2 && failures(&outcome.happened).all(|error| error.kind() == ErrorKind::Denied)
    );
    assert!(failures(&outcome.happened).any(|error| error.message().contains("sys/leases/renew")));
    let now = outcome.service.token.current().get().unwrap().generation();
    assert_eq!(now, token, "the token is fine, so nobody logs in again");
    outcome.service.stop().await.unwrap();
}

/// As with the role: without leave nothing can be done, the lease ends, and OpenBao drops the user.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_taken_away_and_given_back_beyond_the_lease() {
    let incident = Incident::prepare(config(6)).await;
    let policy = take_policy_away(&incident.service).await;
    let_pass(Duration::from_secs(11)).await;
    let meanwhile = incident.failed();
    give_policy_back(&incident.service, policy).await;
    let took = incident.is_over(Duration::from_secs(20)).await;
    let outcome = incident.assess("policy gone for 11 s, lease of 6 s", took).await;
    assert!(meanwhile <= u64::from(RATE) * 6, "{meanwhile} failed in the 5 to 6 s without a user");
    let bound = u64::from(RATE) * (took.as_secs() + 1);
    assert!(outcome.failed - meanwhile <= bound, "{} in {took:?}", outcome.failed - meanwhile);
    assert_eq!(outcome.tally.logins, 0, "the token is fine, so nobody logs in again");
    outcome.service.stop().await.unwrap();
}

// ---------------------------------------------------------------------------------------------- the database behind Vault

/// Lets OpenBao look for the database where nothing listens; the service's own connections are not touched.
async fn cut_vault_off(service: &Service) {
    service.testbed.postgres().execute("ALTER ROLE vault_admin PASSWORD 'of the test'").await.unwrap();
    connect_vault_to(service, 1).await;
}

async fn reconnect_vault(service: &Service) {
    connect_vault_to(service, service.testbed.postgres().port()).await;
}

async fn connect_vault_to(service: &Service, port: u16) {
    let (host, database) = (service.testbed.postgres().host(), service.testbed.postgres().database());
    let connection = json!({
        "plugin_name": "postgresql-database-plugin",
        "connection_url":
            format!("postgresql://{{{{username}}}}:{{{{password}}}}@{host}:{port}/{database}?sslmode=disable"),
        "username": "vault_admin",
        "password": "of the test",
        "allowed_roles": [service.testbed.db_role()],
        "verify_connection": false,
    });
    let path = "database/config/pipeline-db";
    service.testbed.openbao().request("POST", path, Some(connection)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_vault_cannot_reach_within_the_lease() {
    let incident = Incident::prepare(config(10)).await;
    cut_vault_off(&incident.service).await;
    let_pass(Duration::from_secs(7)).await;
    reconnect_vault(&incident.service).await;
    let took = incident.is_over(Duration::from_secs(4)).await;
    let outcome = incident.assess("Vault cut off from the database for 7 s, lease of 10 s", took).await;
    assert_eq!((outcome.failed, rejections(&outcome.happened)), (0, 0));
    assert!(outcome.attempts >= 1);
    for error in failures(&outcome.happened) {
        let whose = (error.kind(), error.party());
        assert_eq!(whose, (ErrorKind::DatabaseUnavailable, Party::Database), "{error}");
    }
    outcome.service.stop().await.unwrap();
}

/// OpenBao cannot drop the user either. When it can, ours has been replaced: OpenBao tries again after ten seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_vault_cannot_reach_beyond_the_lease() {
    let incident = Incident::prepare(config(6)).await;
    cut_vault_off(&incident.service).await;
    let_pass(Duration::from_secs(10)).await;
    assert_eq!(incident.failed(), 0, "open sessions go on");
    reconnect_vault(&incident.service).await;
    let took = incident.is_over(Duration::from_secs(10)).await;
    let outcome = incident.assess("Vault cut off from the database for 10 s, lease of 6 s", took).await;
    assert!(outcome.failed <= u64::from(RATE) * (took.as_secs() + 1), "{} in {took:?}", outcome.failed);
    // Without this, the users of leases that ended meanwhile go whenever OpenBao tries again, up to a minute later.
    let Service { testbed, token, login, pool, .. } = outcome.service;
    pool.close().await;
    login.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
    testbed.openbao().revoke_prefix("database/creds/pipeline").await.unwrap();
    leasehold_suites::nothing_left(&testbed).await.unwrap();
}

/// A crash of the database ends every session: the queries under way fail, and those that come then wait for their
/// connection, whatever we do. Nothing is concluded about the credentials: they are the same afterwards, or their successors by the plan.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_refutes_nothing() {
    let incident = Incident::prepare(config(14)).await;
    let postgres = incident.service.testbed.postgres();
    postgres.kill().await.unwrap();
    let_pass(Duration::from_secs(9)).await;
    postgres.start_again().await.unwrap();
    let while_down = incident.failed();
    let took = incident.is_over(Duration::from_secs(10)).await;
    let outcome = incident.assess("database down for 9 s, lease of 14 s", took).await;
    assert_eq!(rejections(&outcome.happened), 0, "{:?}", outcome.happened);
    assert!(outcome.attempts >= 1, "a renewal fell into it");
    if outcome.service.testbed.container_label().is_none() {
        // Whoever wants a connection waits for it, for as long as the acquire timeout lets it.
        assert!(outcome.failed <= 8, "at most what was under way on the pool's four: {}", outcome.failed);
    } else {
        // Docker's proxy accepts a connection to a published port, and then closes it; sqlx waits only while it is refused.
        let afterwards = outcome.failed - while_down;
        assert!(afterwards <= u64::from(RATE), "{afterwards} once it was back");
    }
    for error in failures(&outcome.happened) {
        assert_eq!(
            (error.kind(), error.party()),
            (ErrorKind::DatabaseUnavailable, Party::Database),
            "{error}"
        );
    }
    assert!(outcome.tally.issues <= outcome.attempts + 1, "{}", outcome.tally);
    outcome.service.stop().await.unwrap();
}

/// Sessions that an administrator ends are opened again with the same credentials, for which OpenBao is asked nothing.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_ended_by_an_administrator_are_opened_again_with_the_same_credentials() {
    let incident = Incident::prepare(config(120)).await;
    let sql =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", incident.user);
    incident.service.testbed.postgres().query(&sql).await.unwrap();
    let took = incident.is_over(Duration::from_secs(5)).await;
    // Long enough for the canary to have asked twice.
    let_pass(Duration::from_secs(5)).await;
    let generation = incident.generation;
    let outcome = incident.assess("every session ended by an administrator", took).await;
    assert!(outcome.failed <= 8, "at most what was under way on the pool's four: {}", outcome.failed);
    assert_eq!((outcome.tally.total(), rejections(&outcome.happened)), (0, 0));
    assert_eq!(outcome.service.login.current().get().unwrap().generation(), generation);
    outcome.service.stop().await.unwrap();
}

// ----------------------------------------------------------------------------------------------- behind Vault's back

/// OpenBao does not know, and its lease lives. Queries fail until the canary asks who it is, which it does every two
/// seconds, and an issue and a sweep are over.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_dropped_behind_vaults_back_is_noticed_and_replaced() {
    let incident = Incident::prepare(config(120)).await;
    let drop = format!("DROP ROLE \"{}\"", incident.user);
    incident.service.testbed.postgres().execute(&drop).await.unwrap();
    let took = incident.is_over(Duration::from_secs(8)).await;
    let generation = incident.generation;
    let outcome = incident.assess("user dropped by an administrator", took).await;
    assert!(outcome.failed > 0, "it was dropped");
    let bound = u64::from(RATE) * 4;
    assert!(outcome.failed <= bound, "{} failed: 2 s for the canary, 2 s to replace", outcome.failed);
    assert_eq!(outcome.service.login.current().get().unwrap().generation().number(), generation.number() + 1);
    let Tally { issues, renewals, logins, .. } = outcome.tally;
    assert!((issues, logins) == (1, 0) && renewals <= 2, "{}", outcome.tally);
    outcome.service.stop().await.unwrap();
}

/// Open sessions do not care about a password. OpenBao's next renewal does not bring the old one back, but the pool's
/// first new connection is refused, and that is enough to replace the user.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_changed_behind_vaults_back_is_noticed_by_the_first_new_connection() {
    let incident = Incident::prepare(config(120)).await;
    let change = format!("ALTER ROLE \"{}\" PASSWORD 'another'", incident.user);
    incident.service.testbed.postgres().execute(&change).await.unwrap();
    // One connection goes, as it does at the end of its lifetime.
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}' LIMIT 1",
        incident.user
    );
    incident.service.testbed.postgres().query(&end).await.unwrap();
    let (service, generation) = (&incident.service, incident.generation);
    wait_until("a successor", Duration::from_secs(10), || async {
        service.login.current().get().unwrap().generation() > generation
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {} failed", incident.failed()));
    incident.is_over(Duration::from_secs(8)).await;
    let took = incident.began.elapsed();
    let outcome = incident.assess("password changed by an administrator", took).await;
    assert!(outcome.failed <= u64::from(RATE) * 5, "{}", outcome.failed);
    assert!(outcome.tally.issues <= 2, "{}", outcome.tally);
    outcome.service.stop().await.unwrap();
}

const ROLE: &str = "database/roles/pipeline";
const POLICY: &str = "sys/policies/acl/pipeline";
