//! The pipeline through two leases, with its script run on real servers, and names that agree with the manifests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use std::{
    collections::HashSet,
    future::Future,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use kubernetes_mysql::Pipeline;
use leasehold_auth::Kubernetes;
use leasehold_renewal::Keeper;
use leasehold_secrets::DatabaseRole;
use leasehold_testbed::{Claims, Config, Image, Testbed, load::Load};
use leasehold_vault::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, MySqlConnection, mysql::MySqlConnectOptions};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::Command,
    sync::oneshot,
    time::{Instant, interval, timeout},
};

const ACCOUNT: &str = include_str!("../manifests/service-account.yaml");
const DEPLOYMENT: &str = include_str!("../manifests/deployment.yaml");
const SCRIPT: &str = include_str!("../vault-setup.sh");

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_through_two_leases() {
    let testbed = Testbed::start(Config { mariadb: true, ..Config::default() }).await.unwrap();
    let mariadb = testbed.mariadb().unwrap();
    mariadb.execute(include_str!("../database.sql")).await.unwrap();
    two_leases(&testbed, "mariadb", &format!("mysql://{}/pipeline", address_of(&testbed))).await;
}

/// A user's first login shows the password, so sqlx wants TLS for it.
#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_through_two_leases_on_mysql() {
    let Some(testbed) = with_mysql().await else { return };
    let authority = testbed.mysql().unwrap().certificates().authority.display().to_string();
    let url = format!("mysql://{}/pipeline?ssl-mode=VERIFY_CA&ssl-ca={authority}", address_of(&testbed));
    two_leases(&testbed, "mysql", &url).await;
}

async fn two_leases(testbed: &Testbed, kind: &str, url: &str) {
    let times = [("TOKEN_PERIOD", "60s"), ("LEASE_TTL", "3s"), ("LEASE_MAX_TTL", "6s")];
    vault_setup(testbed, &[&times[..], &[("DATABASE_KIND", kind)]].concat()).await;
    let bao = testbed.openbao();
    // The README's last step: from here on nobody knows the administrator's password.
    bao.request("POST", "database/rotate-root/pipeline", None).await.unwrap();
    let refused = log_in(url, "vault", "until-it-is-rotated").await.unwrap_err().to_string();
    assert!(refused.contains("Access denied for user 'vault'"), "{refused}");

    let vault = Arc::new(Client::builder().address(bao.address()).build().unwrap());
    let jwt = testbed.service_account().token_path();
    let token = Keeper::start(Kubernetes::new(vault.clone(), "pipeline").jwt_path(jwt)).await.unwrap();
    let login = Keeper::start(DatabaseRole::new(vault, token.current(), "pipeline")).await.unwrap();
    let pipeline = Pipeline::connect(url, login.current(), Duration::from_millis(500)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let server =
        tokio::spawn(axum::serve(listener, pipeline.router()).with_graceful_shutdown(stopped).into_future());

    let users = Arc::new(Mutex::new(HashSet::new()));
    let (client, seen) = (client(), users.clone());
    let requests = Load::start(40, move || {
        let (client, address, seen) = (client.clone(), address.clone(), seen.clone());
        async move {
            for probe in ["/healthz", "/readyz"] {
                let answer = client.get(format!("{address}{probe}")).send().await?;
                answer.error_for_status()?;
            }
            let answer = client.get(format!("{address}/builds")).send().await?.error_for_status()?;
            let answer: Value = answer.json().await?;
            seen.lock().unwrap().insert(answer["user"].to_string());
            Ok::<_, reqwest::Error>(())
        }
    });
    until("three users", 35, async || users.lock().unwrap().len() >= 3).await;
    let measured = requests.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);

    // Leaf first.
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    pipeline.pool.close().await;
    login.shutdown().await.unwrap();
    token.shutdown().await.unwrap();
    nobody_left(testbed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_gives_everything_back_on_sigterm() {
    let testbed = Testbed::start(Config { mariadb: true, ..Config::default() }).await.unwrap();
    let mariadb = testbed.mariadb().unwrap();
    mariadb.execute(include_str!("../database.sql")).await.unwrap();
    vault_setup(&testbed, &[]).await;
    let mut program = Command::new(env!("CARGO_BIN_EXE_kubernetes-mysql"));
    program
        .envs(testbed.environment())
        .env("DATABASE_URL", format!("mysql://{}:{}/pipeline", mariadb.host(), mariadb.port()))
        .env("LISTEN", "127.0.0.1:0")
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut program = program.spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let listening = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it ended instead of listening");
            if let Some((_, address)) = line.split_once("listening address=") {
                return format!("http://{}", address.trim());
            }
        }
    };
    let address = timeout(Duration::from_secs(15), listening).await.unwrap();
    let ready = client().get(format!("{address}/readyz")).send().await.unwrap();
    assert!(ready.status().is_success(), "{ready:?}");
    assert_eq!(mariadb.dynamic_users().await.unwrap().len(), 1);
    kill_process(Pid::from_raw(program.id().unwrap().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    let ended = timeout(Duration::from_secs(15), program.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    nobody_left(&testbed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_to_make_users_work_on_mariadb() {
    let testbed = Testbed::start(Config { mariadb: true, ..Config::default() }).await.unwrap();
    let mariadb = testbed.mariadb().unwrap();
    mariadb.execute(include_str!("../database.sql")).await.unwrap();
    for (kind, in_mysql) in [("mariadb", false), ("mysql", true)] {
        vault_setup(&testbed, &[("DATABASE_KIND", kind)]).await;
        let bao = testbed.openbao();
        let role = bao.request("GET", "database/roles/pipeline", None).await.unwrap();
        let creation = role["data"]["creation_statements"].to_string();
        assert_eq!(creation.contains("CREATE USER"), in_mysql, "{creation}");
        let issued = bao.request("GET", "database/creds/pipeline", None).await.unwrap();
        let (user, password) = (&issued["data"]["username"], &issued["data"]["password"]);
        let (user, password) = (user.as_str().unwrap(), password.as_str().unwrap());
        let url = format!("mysql://{}/pipeline", address_of(&testbed));
        let mut session = log_in(&url, user, password).await.unwrap();
        let built = "INSERT INTO builds (revision) VALUES (sha1('a revision'))";
        assert_eq!(sqlx::query(built).execute(&mut session).await.unwrap().rows_affected(), 1);
        bao.revoke_prefix("database/creds/pipeline").await.unwrap();
        assert_eq!(mariadb.dynamic_users().await.unwrap(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_wants_the_role_for_mysql() {
    let Some(testbed) = with_mysql().await else { return };
    let (bao, mysql) = (testbed.openbao(), testbed.mysql().unwrap());
    vault_setup(&testbed, &[("DATABASE_KIND", "mariadb")]).await;
    let refused = bao.request("GET", "database/creds/pipeline", None).await.unwrap_err().to_string();
    assert!(refused.contains("1064") && refused.contains("IDENTIFIED BY"), "{refused}");
    assert_eq!(mysql.dynamic_users().await.unwrap(), [""; 0]);

    vault_setup(&testbed, &[("DATABASE_KIND", "mysql")]).await;
    let issued = bao.request("GET", "database/creds/pipeline", None).await.unwrap();
    let (user, password) = (&issued["data"]["username"], &issued["data"]["password"]);
    let (user, password) = (user.as_str().unwrap(), password.as_str().unwrap());
    let session = mysql.log_in_to("pipeline", user, password).await.unwrap();
    // MySQL 9.7 has no function sha1.
    session.query("INSERT INTO builds (revision) VALUES (repeat('a', 40))").await.unwrap();
    let builds = session.query("SELECT count(*) FROM builds").await.unwrap();
    assert_eq!(builds, [[Some("1".to_owned())]]);
    bao.revoke_prefix("database/creds/pipeline").await.unwrap();
    assert_eq!(mysql.dynamic_users().await.unwrap(), [""; 0]);
}

#[test]
fn the_manifests_and_the_script_name_the_same() {
    for manifest in [ACCOUNT, DEPLOYMENT] {
        assert!(!manifest.contains('\t'), "YAML is indented with spaces");
        for line in manifest.lines().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().len();
            assert!(indent % 2 == 0 && line.trim_end() == line, "{line}");
        }
    }
    let (account, reviewer) = ACCOUNT.split_once("\n---\n").unwrap();
    let name = value(account, "  name");
    let namespace = value(account, "  namespace");
    assert_eq!(value(DEPLOYMENT, "      serviceAccountName"), name);
    assert_eq!(value(DEPLOYMENT, "  namespace"), namespace);
    assert_eq!(default_of("SERVICE_ACCOUNT"), name);
    assert_eq!(default_of("NAMESPACE"), namespace);
    assert_eq!(value(DEPLOYMENT, "                  audience"), default_of("AUDIENCE"));

    // Vault's own account reviews tokens, in the namespace where the deployment looks for Vault.
    assert_eq!(value(reviewer, "  name"), "vault-reviews-tokens");
    assert!(reviewer.contains("kind: ClusterRole\n  name: system:auth-delegator"));
    let vault = format!("    name: vault\n    namespace: {}", value(reviewer, "    namespace"));
    assert!(reviewer.contains(&vault), "{reviewer}");
    assert!(variable("VAULT_ADDR").contains(&format!(".{}.svc:", value(reviewer, "    namespace"))));

    assert!(SCRIPT.contains(&format!("vault write auth/kubernetes/role/{} ", variable("VAULT_ROLE"))));
    assert_eq!(variable("VAULT_JWT_FILE"), format!("{}/token", value(DEPLOYMENT, "              mountPath")));
    let host = default_of("DATABASE_ADDRESS").strip_suffix(":3306").unwrap();
    assert_eq!(variable("DATABASE_URL"), format!("mysql://{host}/pipeline"));
    for probe in ["/healthz", "/readyz"] {
        assert!(DEPLOYMENT.contains(&format!("path: {probe}\n")), "{probe}");
    }
    assert!(DEPLOYMENT.contains("runAsNonRoot: true"));
    for manifest in [ACCOUNT, DEPLOYMENT] {
        for secret in ["kind: Secret", "secretKeyRef", "secretRef", "password:", "VAULT_TOKEN"] {
            assert!(!manifest.contains(secret), "{secret}");
        }
    }
}

/// What a line of YAML says, by its indentation and key; the first.
fn value<'a>(manifest: &'a str, key: &str) -> &'a str {
    let mut values = manifest.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    values.next().unwrap_or_else(|| panic!("no `{key}`"))
}

/// What the deployment sets a variable to.
fn variable(name: &str) -> &'static str {
    let (_, after) = DEPLOYMENT.split_once(&format!("- name: {name}\n")).unwrap();
    value(after, "              value")
}

/// What the script takes where its environment does not say.
fn default_of(name: &str) -> &'static str {
    let start = format!("{name}=${{{name}:-");
    let line = SCRIPT.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    line.strip_suffix('}').unwrap()
}

/// A testbed with MySQL, filled; `None` where there is no image of it.
async fn with_mysql() -> Option<Testbed> {
    if !matches!(Image::MySql.at_hand().await, Ok(Some(_))) {
        println!("skipped: MySQL's image is not here (`cargo testbed images mysql`)");
        return None;
    }
    let testbed = Testbed::start(Config { mysql: true, ..Config::default() }).await.unwrap();
    testbed.mysql().unwrap().execute(include_str!("../database.sql")).await.unwrap();
    Some(testbed)
}

/// Where the database is: MySQL if there is one, else MariaDB.
fn address_of(testbed: &Testbed) -> String {
    match (testbed.mysql(), testbed.mariadb()) {
        (Some(mysql), _) => format!("{}:{}", mysql.host(), mysql.port()),
        (None, Some(mariadb)) => format!("{}:{}", mariadb.host(), mariadb.port()),
        (None, None) => panic!("there is no such database"),
    }
}

async fn dynamic_users(testbed: &Testbed) -> Vec<String> {
    match (testbed.mysql(), testbed.mariadb()) {
        (Some(mysql), _) => mysql.dynamic_users().await.unwrap(),
        (None, Some(mariadb)) => mariadb.dynamic_users().await.unwrap(),
        (None, None) => panic!("there is no such database"),
    }
}

async fn nobody_left(testbed: &Testbed) {
    let bao = testbed.openbao();
    until("nobody is left", 10, async || {
        dynamic_users(testbed).await.is_empty()
            && bao.leases_of("pipeline").await.unwrap().is_empty()
            && bao.tokens().await.unwrap().is_empty()
    })
    .await;
}

async fn log_in(url: &str, user: &str, password: &str) -> Result<MySqlConnection, sqlx::Error> {
    let options: MySqlConnectOptions = url.parse()?;
    options.username(user).password(password).connect().await
}

/// Runs the script as an operator of this cluster does, for this database; `vault` is the testbed's client, as root.
async fn vault_setup(testbed: &Testbed, variables: &[(&str, &str)]) {
    let (bao, account) = (testbed.openbao(), testbed.service_account());
    // The testbed has told OpenBao where its cluster is; the script is told the same, and shows a reviewer's token.
    let cluster = bao.request("GET", "auth/kubernetes/config", None).await.unwrap();
    let known = |what: &str| cluster["data"][what].as_str().unwrap().to_owned();
    // The account that the testbed's cluster lets review tokens.
    let reviewer = account.token(&Claims::reviewer());
    // Nothing of the testbed's own may do the script's work.
    bao.request("DELETE", "auth/kubernetes/role/pipeline", None).await.unwrap();
    let nowhere = json!({ "kubernetes_host": "https://nowhere.invalid", "kubernetes_ca_cert": known("kubernetes_ca_cert") });
    bao.request("POST", "auth/kubernetes/config", Some(nowhere)).await.unwrap();
    let (host, authority) = (known("kubernetes_host"), known("kubernetes_ca_cert"));
    let database = address_of(testbed);
    let ours = [
        ("KUBERNETES_HOST", &*host),
        ("KUBERNETES_CA", &*authority),
        ("REVIEWER_JWT", &*reviewer.unwrap()),
        ("DATABASE_ADDRESS", &*database),
    ];
    testbed.run_script("vault-setup.sh", &[&ours, variables].concat()).await.unwrap();
    let pod = Claims { audience: default_of("AUDIENCE").to_owned(), ..Claims::default() };
    account.rotate_with(&pod).unwrap();
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, seconds: u64, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut look = interval(Duration::from_millis(50));
    while !holds().await {
        assert!(Instant::now() < deadline, "waited {seconds} s in vain: {what}");
        look.tick().await;
    }
}
