//! The request counter: one attempt per back-off step, and at most one lookup-self after a 403, whatever fails.

use std::{sync::Arc, time::Duration};

use leasehold_auth::GivenToken;
use leasehold_core::{Credentials, Error, ErrorKind, Event, EventKind, Generation, Provider, Token, Vault};
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_suites::{
    CREDENTIALS, Service, TOKEN, Tally, events, kubernetes, let_pass, load, nothing_left,
    one_attempt_per_step, pool, vault, wait_until,
};
use leasehold_testbed::{Config, Fault, Recorder, Testbed, load::Load};
use leasehold_vault::Client;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{sync::broadcast::Receiver, time::Instant};

const RATE: u32 = 10;

fn config() -> Config {
    Config {
        lease_ttl: Duration::from_secs(45),
        lease_max_ttl: Duration::from_secs(3600),
        token_ttl: Duration::from_secs(60),
        token_max_ttl: Duration::from_secs(3600),
        ..Config::default()
    }
}

/// One of several services on the same servers, each with a recorder of its own.
struct Tenant {
    name: &'static str,
    recorder: Recorder,
    token: Keeper<Token>,
    login: Keeper<Credentials>,
    pool: PgPool,
    load: Load,
    of_token: Receiver<Event>,
    of_login: Receiver<Event>,
}

/// What an incident came to.
struct Outcome {
    tally: Tally,
    of_token: Vec<EventKind>,
    of_login: Vec<EventKind>,
}

impl Tenant {
    async fn start(testbed: &Testbed, name: &'static str) -> Self {
        let recorder = testbed.recorder().unwrap();
        let client = Client::builder().address(recorder.address()).timeout(Duration::from_secs(1));
        let vault: Arc<dyn Vault> = Arc::new(client.build().unwrap());
        let token = Keeper::start(kubernetes(testbed, &vault)).await.unwrap();
        let role = DatabaseRole::new(vault, token.current(), testbed.db_role());
        let login = Keeper::start(role).await.unwrap();
        let pool = pool(testbed).connect(login.current()).await.unwrap();
        let load = load(&pool, RATE);
        load.wait_for(5).await;
        recorder.clear();
        let (of_token, of_login) = (token.events(), login.events());
        Self { name, recorder, token, login, pool, load, of_token, of_login }
    }

    /// Has both keepers ask the server whether their secrets live, as they do when these are refused somewhere.
    fn disturb(&self) {
        self.disturb_login();
        self.token.current().reject(generation(&self.token), ErrorKind::CredentialsRefused);
    }

    fn disturb_login(&self) {
        self.login.current().reject(generation(&self.login), ErrorKind::CredentialsRefused);
    }

    /// As [`recover_from`](Self::recover_from) what makes it ask about its token after each 403.
    async fn recover(self, bound: Duration) -> Outcome {
        self.recover_from(bound, 1).await
    }

    /// Ends the fault, waits until both keepers are content, and makes sure that it cost one request per step, so many
    /// lookup-self per 403, and no query.
    async fn recover_from(mut self, bound: Duration, lookups: usize) -> Outcome {
        let name = self.name;
        let during = self.recorder.requests().len();
        self.recorder.heal();
        let content = || async {
            self.token.health().status == leasehold_core::Status::Healthy
                && self.login.health().status == leasehold_core::Status::Healthy
        };
        let took = wait_until("both keepers are content", bound, content)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}: {:#?}", self.recorder.requests()));
        let requests = self.recorder.requests();
        let (of_token, of_login) = (events(&mut self.of_token), events(&mut self.of_login));
        self.load.wait_for(u64::from(RATE)).await;
        let measured = self.load.stop().await;
        let tally = Tally::of(&requests);
        println!(
            "{name}: {} of {} queries failed; recovered after {took:.1?}; {during} requests during the fault; {tally}",
            measured.failed, measured.queries
        );
        assert_eq!(measured.failed, 0, "{name}: the credentials never died: {:?}", measured.failures);
        assert_eq!(
            tally.lookups,
            lookups * tally.denied,
            "{name}: {lookups} lookup-self per 403: {requests:#?}"
        );
        for (places, happened) in [(CREDENTIALS, &of_login), (TOKEN, &of_token)] {
            one_attempt_per_step(&requests, places, happened)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        self.pool.close().await;
        self.login.shutdown().await.unwrap();
        self.token.shutdown().await.unwrap();
        Outcome { tally, of_token, of_login }
    }
}

fn generation<S: Send + Sync + 'static>(keeper: &Keeper<S>) -> Generation {
    keeper.current().get().unwrap().generation()
}

fn failures(happened: &[EventKind]) -> impl Iterator<Item = &Error> {
    happened.iter().filter_map(|event| match event {
        EventKind::Failed { error, .. } => Some(error),
        _ => None,
    })
}

/// An answer as from a proxy in front of OpenBao.
fn html(status: u16) -> Fault {
    let body = "<html><body><h1>Bad Gateway</h1></body></html>".to_owned();
    Fault::Answer { status, headers: vec![("Content-Type".into(), "text/html".into())], body }
}

fn answer(status: u16, body: &Value) -> Fault {
    Fault::Answer {
        status,
        headers: vec![("Content-Type".into(), "application/json".into())],
        body: body.to_string(),
    }
}

/// Both keepers are made to ask at once. From then on they fail for twelve seconds of a lease of 45 and a token of 60: time
/// for some six steps each if the waits are as long as they can be, and for 48 if nothing but the floor held them back.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_is_tried_once_per_step_and_costs_no_query() {
    let testbed = Testbed::start(config()).await.unwrap();
    let faults = [
        ("500", Fault::error(500, "internal error"), ErrorKind::Unreachable),
        ("502 HTML", html(502), ErrorKind::Unreachable),
        ("503 sealed", Fault::error(503, "Vault is sealed"), ErrorKind::Sealed),
        ("429 for 3 s", Fault::error(429, "rate limit").retry_after(3), ErrorKind::RateLimited),
        ("472", answer(472, &json!({"errors": []})), ErrorKind::Unreachable),
        ("412", Fault::error(412, "required index state not present"), ErrorKind::NotReplicated),
        ("connection dropped", Fault::Drop, ErrorKind::Unreachable),
        ("answer lost", Fault::Lose, ErrorKind::Unreachable),
        ("answer after the timeout", Fault::Delay(Duration::from_secs(3)), ErrorKind::Unreachable),
    ];
    let mut tenants = Vec::new();
    for (name, fault, kind) in faults {
        tenants.push((Tenant::start(&testbed, name).await, fault, kind));
    }
    for (tenant, fault, _) in &tenants {
        tenant.recorder.fault("/v1/", fault.clone(), usize::MAX);
        tenant.disturb();
    }
    let lasts = Duration::from_secs(12);
    let_pass(lasts).await;
    let mut recoveries = tokio::task::JoinSet::new();
    for (tenant, _, kind) in tenants {
        let name = tenant.name;
        recoveries.spawn(async move { (name, kind, tenant.recover(Duration::from_secs(10)).await) });
    }
    for (name, kind, Outcome { tally, of_token, of_login }) in recoveries.join_all().await {
        for happened in [&of_token, &of_login] {
            let tried = failures(happened).count();
            let most = if kind == ErrorKind::RateLimited { 12 / 3 + 1 } else { 16 };
            assert!((2..=most).contains(&tried), "{name}: {tried} steps in {lasts:?}: {happened:?}");
            for error in failures(happened) {
                assert_eq!(error.kind(), kind, "{name}: {error}");
            }
        }
        let Tally { issues, logins, lookups, .. } = tally;
        assert_eq!((issues, logins, lookups), (0, 0, 0), "{name}: nothing is given up for it: {tally}");
    }
    nothing_left(&testbed).await.unwrap();
}

/// Storms of 403, of which only one says for certain that the token is dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_403_costs_at_most_one_lookup_self() {
    let denied = || Fault::error(403, "permission denied");
    let testbed = Testbed::start(config()).await.unwrap();
    // Dead as far as anybody can tell: lookup-self is answered 403 too, and so is the login.
    let everything = Tenant::start(&testbed, "403 for everything").await;
    everything.recorder.fault("/v1/", denied(), usize::MAX);
    // Vault says more than OpenBao, so nobody needs to ask.
    let outspoken = Tenant::start(&testbed, "403 invalid token").await;
    let body = json!({"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]});
    outspoken.recorder.fault("/v1/", answer(403, &body), usize::MAX);
    let policy = Tenant::start(&testbed, "403 by policy").await;
    policy.recorder.fault("/v1/sys/leases/renew", denied(), usize::MAX);
    policy.recorder.fault("/v1/database/creds", denied(), usize::MAX);
    // Nothing is concluded about a token that cannot be asked about.
    let unknown = Tenant::start(&testbed, "403, and 500 for lookup-self").await;
    unknown.recorder.fault("/v1/auth/token/lookup-self", Fault::error(500, "internal error"), usize::MAX);
    unknown.recorder.fault("/v1/", denied(), usize::MAX);
    for tenant in [&everything, &outspoken, &policy, &unknown] {
        tenant.disturb_login();
    }
    let_pass(Duration::from_secs(7)).await;
    let bound = Duration::from_secs(20);
    for tenant in [&everything, &outspoken, &policy, &unknown] {
        let (tally, requests) = (Tally::of(&tenant.recorder.requests()), tenant.recorder.requests());
        // Both keepers; the steps of what an operator has to mend double without a bound that matters here.
        assert!(tally.total() - tally.lookups <= 2 * 9, "{}: {tally}: {requests:#?}", tenant.name);
    }
    let (everything, outspoken, policy, unknown) = tokio::join!(
        everything.recover(bound),
        outspoken.recover_from(bound, 0),
        policy.recover(bound),
        unknown.recover(bound)
    );
    for dead in [&everything, &outspoken] {
        assert!(failures(&dead.of_login).all(|error| error.kind() == ErrorKind::DeadToken));
        assert!(dead.tally.logins >= 2, "{}", dead.tally);
    }
    // A bare "permission denied" to a JWT may pass.
    assert!(failures(&everything.of_token).all(|error| error.kind() == ErrorKind::LoginDoubtful));
    assert!(failures(&outspoken.of_token).all(|error| error.kind() == ErrorKind::LoginRefused));
    assert!(failures(&policy.of_login).all(|error| error.kind() == ErrorKind::Denied));
    assert_eq!(policy.tally.logins, 0, "the token is fine: {}", policy.tally);
    assert!(failures(&unknown.of_login).all(|error| error.kind() == ErrorKind::Denied));
    assert_eq!(unknown.tally.logins, 0, "nobody said that the token is dead: {}", unknown.tally);
    nothing_left(&testbed).await.unwrap();
}

/// The server carried out what it was asked, and nobody heard: each attempt leaves a lease that no client knows of. They
/// cannot be fewer than the attempts, are no more, and go with the token at shut-down.
#[tokio::test(flavor = "multi_thread")]
async fn an_issue_whose_answer_is_lost_leaves_one_lease_per_attempt_until_the_token_goes() {
    let testbed = Testbed::start(config()).await.unwrap();
    let tenant = Tenant::start(&testbed, "answers of issues lost").await;
    let mut verified = tenant.login.events();
    tenant.disturb_login();
    let mut seen = Vec::new();
    wait_until("verified by a renewal", Duration::from_secs(5), || {
        seen.extend(events(&mut verified));
        let renewed = seen.iter().any(|event| matches!(event, EventKind::Renewed { .. }));
        async move { renewed }
    })
    .await
    .unwrap();
    tenant.recorder.fault("/v1/database/creds", Fault::Lose, 3);
    // It lives, and is refused all the same: a successor is issued.
    let before = generation(&tenant.login);
    tenant.disturb_login();
    let adopted = || async {
        let now = tenant.login.current().get().unwrap();
        now.generation() > before
            && testbed.postgres().sessions_of(now.secret().username()).await.unwrap() >= 4
            && Tally::of(&tenant.recorder.requests()).revocations == 1
    };
    wait_until("a successor in every connection", Duration::from_secs(15), adopted).await.unwrap();
    let issues = Tally::of(&tenant.recorder.requests()).issues;
    assert_eq!(issues, 4, "three that were lost and one: {:#?}", tenant.recorder.requests());
    wait_until("ours, and the three", Duration::from_secs(5), || async {
        testbed.openbao().leases().await.unwrap().len() == issues
    })
    .await
    .unwrap();
    let outcome = tenant.recover(Duration::from_secs(5)).await;
    assert_eq!(failures(&outcome.of_login).count(), 3);
    nothing_left(&testbed).await.unwrap();
}

/// Renewals that are answered 200 and extend nothing, or next to nothing (Vault #1979): one of them is enough, and the
/// successor is there while there is time to drain.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_extends_nothing_is_the_last_and_costs_no_query() {
    // So that the token has nothing to renew meanwhile.
    let hour = Duration::from_secs(3600);
    let terms = Config { token_ttl: hour, token_max_ttl: 2 * hour, ..config() };
    let testbed = Testbed::start(terms).await.unwrap();
    let renewed = |seconds: u64| {
        answer(200, &json!({"lease_id": "x", "lease_duration": seconds, "renewable": true, "data": null}))
    };
    let silent = |status| Fault::Answer { status, headers: Vec::new(), body: String::new() };
    let faults = [
        ("renewed: empty body", silent(200), 1),
        ("renewed: 204", silent(204), 1),
        ("renewed for 0 s", renewed(0), 1),
        // It is believed to have ended by itself before its connections were let go.
        ("renewed for 1 s of 45", renewed(1), 0),
        ("renewed for 20 s of 45", renewed(20), 1),
    ];
    let testbed = Arc::new(testbed);
    let mut tenants = tokio::task::JoinSet::new();
    for (name, fault, revocations) in faults {
        let tenant = Tenant::start(&testbed, name).await;
        tenant.recorder.fault("/v1/sys/leases/renew", fault, usize::MAX);
        let testbed = Arc::clone(&testbed);
        tenants.spawn(async move {
            let before = generation(&tenant.login);
            tenant.disturb_login();
            wait_until("a successor, and the old lease revoked", Duration::from_secs(35), || async {
                let user = tenant.login.current().get().unwrap().secret().username().to_owned();
                generation(&tenant.login) > before
                    && testbed.postgres().sessions_of(&user).await.unwrap() >= 4
                    && Tally::of(&tenant.recorder.requests()).revocations == revocations
            })
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}: {:#?}", tenant.recorder.requests()));
            let_pass(Duration::from_secs(2)).await;
            (name, revocations, tenant.recover(Duration::from_secs(5)).await.tally)
        });
    }
    for (name, revocations, tally) in tenants.join_all().await {
        assert_eq!((tally.renewals, tally.issues, tally.revocations), (1, 1, revocations), "{name}: {tally}");
        assert_eq!(tally.total(), 2 + revocations, "{name}: {tally}");
    }
    nothing_left(&testbed).await.unwrap();
}

// ------------------------------------------------------------------------------------------------------ kinds of tokens

/// Starts a service with a token that was given, from `auth/token/create` or elsewhere.
async fn given(config: Config, token: impl AsyncFnOnce(&Testbed) -> String) -> Service {
    let testbed = Testbed::start(config).await.unwrap();
    let recorder = testbed.recorder().unwrap();
    let token = token(&testbed).await;
    let vault = vault(&recorder).unwrap();
    let login = Box::new(GivenToken::new(Arc::clone(&vault), token));
    Service::start_with(testbed, recorder, vault, login).await.unwrap()
}

async fn create_token(testbed: &Testbed, terms: Value) -> String {
    let answer = testbed.openbao().request("POST", "auth/token/create", Some(terms)).await.unwrap();
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

/// A service's role with other terms for its token; the rest stays.
async fn change_login_role(testbed: &Testbed, terms: Value) {
    let path = "auth/kubernetes/role/pipeline";
    let mut role = testbed.openbao().request("GET", path, None).await.unwrap()["data"].clone();
    for (name, value) in terms.as_object().unwrap() {
        role[name] = value.clone();
    }
    testbed.openbao().request("POST", path, Some(role)).await.unwrap();
}

/// It is renewed for its period again and again, and nothing is ever truncated: the first generation of the token stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_periodic_token_is_renewed_for_its_period_and_never_succeeded() {
    let terms = Config { lease_ttl: Duration::from_secs(60), ..config() };
    let on_given = given(terms.clone(), async |testbed| {
        create_token(testbed, json!({"policies": ["pipeline"], "period": "4s", "no_parent": true})).await
    });
    let on_login = async {
        let testbed = Testbed::start(Config {
            token_ttl: Duration::ZERO,
            token_max_ttl: Duration::ZERO,
            ..terms.clone()
        })
        .await
        .unwrap();
        change_login_role(&testbed, json!({"token_period": "4s"})).await;
        let recorder = testbed.recorder().unwrap();
        let vault = vault(&recorder).unwrap();
        let login = kubernetes(&testbed, &vault);
        Service::start_with(testbed, recorder, vault, login).await.unwrap()
    };
    let (on_given, on_login) = tokio::join!(on_given, on_login);
    for (name, service) in [("given periodic token", on_given), ("periodic token of a login", on_login)] {
        let load = service.load(RATE);
        service.recorder.clear();
        let began = Instant::now();
        let mut happened = service.token.events();
        wait_until("renewed four times", Duration::from_secs(15), || async {
            Tally::of(&service.recorder.requests()).token_renewals >= 4
        })
        .await
        .unwrap();
        let (tally, lasted) = (Tally::of(&service.recorder.requests()), began.elapsed());
        let measured = load.stop().await;
        println!(
            "{name}: {} of {} queries failed; {tally} in {lasted:.1?}",
            measured.failed, measured.queries
        );
        assert_eq!(measured.failed, 0, "{:?}", measured.failures);
        assert_eq!((tally.total(), tally.token_renewals), (4, 4), "{tally}");
        // The first may come at once; the three that follow, after half of the period at the earliest.
        assert!(lasted >= Duration::from_secs(6), "{lasted:?} for four renewals of a period of four seconds");
        assert_eq!(generation(&service.token).number(), 1);
        let truncated = |event: &EventKind| matches!(event, EventKind::Renewed { truncated: true, .. });
        assert!(!events(&mut happened).iter().any(truncated));
        service.pool.close().await;
        service.login.shutdown().await.unwrap();
        service.token.shutdown().await.unwrap();
    }
}

/// It has no end, so it is asked about once and never renewed or revoked; the credentials rotate under it.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_token_is_looked_up_once_and_never_touched_again() {
    let terms =
        Config { lease_ttl: Duration::from_secs(4), lease_max_ttl: Duration::from_secs(6), ..config() };
    let service = given(terms, async |testbed| testbed.openbao().root_token().to_owned()).await;
    let load = service.load(RATE);
    wait_until("three generations", Duration::from_secs(20), || async {
        generation(&service.login).number() >= 3
    })
    .await
    .unwrap();
    let measured = load.stop().await;
    let Service { testbed, recorder, token, login, pool } = service;
    assert_eq!(token.health().usable_for, None);
    pool.close().await;
    login.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
    let tally = Tally::of(&recorder.requests());
    println!("root token: {} of {} queries failed; {tally}", measured.failed, measured.queries);
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    let Tally { lookups, logins, token_renewals, issues, revocations, .. } = tally;
    assert_eq!((lookups, logins, token_renewals), (1, 0, 0), "{tally}");
    // Each lease by itself, unless it ends before its connections have been let go, which takes two seconds.
    assert!((1..=issues).contains(&revocations), "{tally}");
    assert!(!recorder.requests().iter().any(|request| request.path.ends_with("revoke-self")));
    testbed.openbao().request("GET", "auth/token/lookup-self", None).await.unwrap();
    nothing_left(&testbed).await.unwrap();
}

/// F15: it costs one 403 and one lookup-self for each lease, which is then replaced while there is time to drain.
#[tokio::test(flavor = "multi_thread")]
async fn without_leave_to_renew_leases_they_are_replaced_in_time() {
    let testbed = Testbed::start(Config { lease_ttl: Duration::from_secs(6), ..config() }).await.unwrap();
    let policy = r#"path "database/creds/pipeline" { capabilities = ["read"] }
        path "sys/leases/revoke" { capabilities = ["update"] }
        path "auth/token/*" { capabilities = ["read", "update"] }"#;
    let bao = testbed.openbao();
    bao.request("PUT", "sys/policies/acl/pipeline", Some(json!({ "policy": policy }))).await.unwrap();
    // `default` would allow it.
    change_login_role(&testbed, json!({"token_no_default_policy": true})).await;
    let recorder = testbed.recorder().unwrap();
    let vault = vault(&recorder).unwrap();
    let login = kubernetes(&testbed, &vault);
    let service = Service::start_with(testbed, recorder, vault, login).await.unwrap();
    service.recorder.clear();
    let mut happened = service.login.events();
    let load = service.load(RATE);
    wait_until("the fourth generation", Duration::from_secs(25), || async {
        generation(&service.login).number() >= 4
    })
    .await
    .unwrap();
    let requests = service.recorder.requests();
    let tally = Tally::of(&requests);
    let measured = load.stop().await;
    println!("no leave to renew leases: {} of {} queries failed; {tally}", measured.failed, measured.queries);
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    assert_eq!(tally.issues, 3, "{tally}");
    assert_eq!(tally.lookups, tally.denied, "one lookup-self per 403: {tally}");
    // The first renewal comes after 1.5 to 3.6 s, and those that follow it half a second and more apart.
    assert!(
        tally.renewals <= 3 + tally.issues,
        "a few attempts for the first lease, then one for each: {tally}"
    );
    let happened = events(&mut happened);
    assert!(failures(&happened).count() <= 4, "once it is known, it is no trouble: {happened:?}");
    service.stop().await.unwrap();
}

/// F20: with its last use a token goes, and its leases with it. Its uses are counted, and it has a successor before.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_few_uses_has_a_successor_before_they_are_used_up() {
    let terms = Config { lease_ttl: Duration::from_secs(4), token_num_uses: 6, ..config() };
    let service = Service::start(terms).await.unwrap();
    let load = service.load(RATE);
    let third = || async { generation(&service.token).number() >= 4 };
    wait_until("a fourth token", Duration::from_secs(60), third).await.unwrap();
    let measured = load.stop().await;
    let tally = service.account("tokens of 6 uses, three of them used up", &measured, 3.0);
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
    // The last use of each is its lease's revocation or its own: what comes after that is answered 403.
    assert!(tally.denied <= tally.logins, "{tally}");
    service.stop().await.unwrap();
}

/// F41: a process that is killed before its first renewal leaves a user for seconds, not for the lease's whole TTL.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_cut_short_until_its_first_renewal() {
    let testbed = Testbed::start(config()).await.unwrap();
    let recorder = testbed.recorder().unwrap();
    let vault = vault(&recorder).unwrap();
    let token = Keeper::start(kubernetes(&testbed, &vault)).await.unwrap();
    let role = DatabaseRole::new(vault, token.current(), testbed.db_role()).first_ttl(Duration::from_secs(4));
    // Killed: it is issued, and nobody ever hears of it again.
    let lost = role.issue().await.unwrap();
    assert_eq!(lost.lease.ttl(), Some(Duration::from_secs(4)));
    let login = Keeper::start(role).await.unwrap();
    let mut happened = login.events();
    wait_until("the first is gone", Duration::from_secs(15), || async {
        testbed.postgres().dynamic_users().await.unwrap().len() == 1
    })
    .await
    .unwrap();
    wait_until("the second has its whole time", Duration::from_secs(5), || {
        let whole = |event: &EventKind| {
            matches!(event, EventKind::Renewed { ttl, truncated: false } if *ttl == Duration::from_secs(45))
        };
        let renewed = events(&mut happened).iter().any(whole);
        async move { renewed }
    })
    .await
    .unwrap();
    login.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
    nothing_left(&testbed).await.unwrap();
}
