//! Ways to log in, each through several tokens under load, and each with what can be wrong.

use std::{sync::Arc, time::Duration};

use leasehold_auth::{AppRole, GivenToken, Jwt, Login, TlsCertificate, TokenFile, UserPass};
use leasehold_core::{Error, ErrorKind, Party, Provider, Token, Vault};
use leasehold_suites::{Service, let_pass, vault, wait_until};
use leasehold_testbed::{Claims, Config, Recorder, Testbed, Tls};
use leasehold_vault::Client;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// A testbed with one more way in.
struct Stage {
    testbed: Testbed,
    recorder: Recorder,
    vault: Arc<dyn Vault>,
}

impl Stage {
    async fn set(kind: &str) -> Self {
        Self::set_with(kind, Config::default()).await
    }

    async fn set_with(kind: &str, config: Config) -> Self {
        let testbed = Testbed::start(config).await.unwrap();
        let recorder = testbed.recorder().unwrap();
        let vault = vault(&recorder).unwrap();
        let stage = Self { testbed, recorder, vault };
        stage.write(&format!("sys/auth/{kind}"), json!({ "type": kind })).await;
        stage
    }

    async fn write(&self, path: &str, body: Value) -> Value {
        self.testbed.openbao().request("POST", path, Some(body)).await.unwrap()
    }

    async fn read(&self, path: &str) -> Value {
        self.testbed.openbao().request("GET", path, None).await.unwrap()
    }

    /// A role with tokens of six seconds at most, and its id.
    async fn approle(&self) -> String {
        let role = json!({ "token_policies": [self.testbed.role()], "token_ttl": 3, "token_max_ttl": 6 });
        self.write("auth/approle/role/pipeline", role).await;
        let id = self.read("auth/approle/role/pipeline/role-id").await;
        id["data"]["role_id"].as_str().unwrap().to_owned()
    }

    async fn secret_id(&self) -> String {
        let answer = self.write("auth/approle/role/pipeline/secret-id", json!({})).await;
        answer["data"]["secret_id"].as_str().unwrap().to_owned()
    }

    async fn wrapped_secret_id(&self, lasts: Duration) -> String {
        let path = "auth/approle/role/pipeline/secret-id";
        self.testbed.openbao().request_wrapped("POST", path, Some(json!({})), lasts).await.unwrap()
    }

    /// Three tokens, and no query fails; then everything is given back.
    async fn serves(self, login: impl Provider<Secret = Token> + 'static) {
        let login: Login = Box::new(login);
        let service = Service::start_with(self.testbed, self.recorder, self.vault, login).await.unwrap();
        let load = service.load(50);
        wait_until("three tokens", MINUTE, || async {
            service.token.current().get().unwrap().generation().number() >= 3
        })
        .await
        .unwrap();
        let measured = load.stop().await;
        assert_eq!(measured.failed, 0, "{:?}", measured.failures);
        service.account("logged in", &measured, 4.0);
        service.stop().await.unwrap();
    }

    /// The error of a login that cannot work; it tells none of these.
    async fn refusal(&self, login: impl Provider<Secret = Token>, secrets: &[&str]) -> Error {
        let Err(error) = login.issue().await else { panic!("{} let us in", login.name()) };
        println!("{error}");
        for secret in secrets {
            assert!(!format!("{error} {error:?}").contains(secret), "a secret is told");
        }
        error
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approle_serves_with_a_secret_id_that_was_wrapped() {
    let stage = Stage::set("approle").await;
    let role_id = stage.approle().await;
    let wrapped = stage.wrapped_secret_id(MINUTE).await;
    let login = AppRole::new(stage.vault.clone(), role_id).wrapped_secret_id(wrapped);
    stage.serves(login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approle_with_something_wrong() {
    let stage = Stage::set("approle").await;
    let (role_id, secret_id) = (stage.approle().await, stage.secret_id().await);
    let approle = |role_id: &str| AppRole::new(stage.vault.clone(), role_id);
    let good = approle(&role_id).secret_id(secret_id.as_str());
    good.issue().await.unwrap();

    let refused = (ErrorKind::LoginRefused, Party::Vault);
    for login in [
        approle(&role_id).secret_id("another"),
        approle("another").secret_id(secret_id.as_str()),
        approle(&role_id),
    ] {
        let error = stage.refusal(login, &[&secret_id]).await;
        assert_eq!((error.kind(), error.party()), refused, "{error}");
    }
    let elsewhere = stage.refusal(good.clone().mount("nowhere"), &[&secret_id]).await;
    assert!(elsewhere.to_string().contains("auth/nowhere/login"), "{elsewhere}");

    let taken = stage.wrapped_secret_id(MINUTE).await;
    approle(&role_id).wrapped_secret_id(taken.as_str()).issue().await.unwrap();
    let expired = stage.wrapped_secret_id(Duration::from_secs(1)).await;
    let_pass(Duration::from_secs(2)).await;
    for wrapping in [taken, expired, "hvs.nothing".to_owned()] {
        let error = stage.refusal(approle(&role_id).wrapped_secret_id(wrapping.as_str()), &[&wrapping]).await;
        assert_eq!((error.kind(), error.party()), (ErrorKind::LoginRefused, Party::Configuration), "{error}");
        assert!(error.to_string().contains("as stolen"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_wrapped_is_used_as_one_that_was_given() {
    let stage = Stage::set("approle").await;
    let body = json!({ "policies": [stage.testbed.role()], "ttl": "60s", "no_parent": true });
    let bao = stage.testbed.openbao();
    let wrapped = bao.request_wrapped("POST", "auth/token/create", Some(body), MINUTE).await.unwrap();
    let login = GivenToken::wrapped(stage.vault.clone(), wrapped.as_str());
    let token = login.issue().await.unwrap().secret;
    assert_eq!(login.issue().await.unwrap().secret.accessor(), token.accessor());
    assert_eq!(bao.tokens().await.unwrap().len(), 1, "the wrapping token is gone, the token is there");
    let thief = stage.refusal(GivenToken::wrapped(stage.vault.clone(), wrapped.as_str()), &[&wrapped]).await;
    assert!(thief.to_string().contains("as stolen"), "{thief}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_serves_without_a_token_review() {
    let stage = Stage::set("jwt").await;
    let account = stage.testbed.service_account();
    let trusted =
        json!({ "jwt_validation_pubkeys": [account.public_key()], "bound_issuer": account.issuer() });
    stage.write("auth/jwt/config", trusted).await;
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_subject": format!("system:serviceaccount:{}:{}", account.namespace(), account.name()),
        "bound_audiences": [Claims::default().audience],
        "token_policies": [stage.testbed.role()],
        "token_ttl": 3,
        "token_max_ttl": 6,
    });
    stage.write("auth/jwt/role/pipeline", role).await;
    let path = account.token_path();
    let login = Jwt::from_file(stage.vault.clone(), "pipeline", &path);

    let wrong = [
        Claims { audience: "somebody-else".into(), ..Claims::default() },
        Claims { name: "other".into(), ..Claims::default() },
        Claims { expires_in: None, ..Claims::default() },
        Claims { forged: true, ..Claims::default() },
    ];
    for claims in wrong {
        account.rotate_with(&claims).unwrap();
        let jwt = std::fs::read_to_string(&path).unwrap();
        let error = stage.refusal(login.clone(), &[&jwt]).await;
        assert_eq!((error.kind(), error.party()), (ErrorKind::LoginRefused, Party::Vault), "{error}");
    }
    account.write_raw("garbage").unwrap();
    assert_eq!(stage.refusal(login.clone(), &[]).await.kind(), ErrorKind::LoginRefused);
    account.write_raw("").unwrap();
    let empty = stage.refusal(login.clone(), &[]).await;
    assert_eq!((empty.kind(), empty.party()), (ErrorKind::Configuration, Party::File), "{empty}");
    account.rotate().unwrap();
    stage.serves(login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_serves_with_a_password_from_a_file() {
    let stage = Stage::set("userpass").await;
    let user = json!({
        "password": " p@ss/word ",
        "token_policies": [stage.testbed.role()],
        "token_ttl": 3,
        "token_max_ttl": 6,
    });
    stage.write("auth/userpass/users/pipeline", user).await;
    let path = stage.testbed.openbao().folder().join("password");
    std::fs::write(&path, " p@ss/word \n").unwrap();
    for (name, password) in [("pipeline", "p@ss/word"), ("nobody", " p@ss/word ")] {
        let login = UserPass::new(stage.vault.clone(), name, password);
        let error = stage.refusal(login, &[password]).await;
        assert_eq!((error.kind(), error.party()), (ErrorKind::LoginRefused, Party::Vault), "{error}");
    }
    let login = UserPass::from_file(stage.vault.clone(), "pipeline", &path);
    stage.serves(login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_serves_and_one_that_is_missing_or_unknown_does_not() {
    let stage = Stage::set_with("cert", Config { tls: Tls::Mutual, ..Config::default() }).await;
    let bao = stage.testbed.openbao();
    let (files, address) = (bao.certificates(), bao.tls_address().unwrap());
    let authority = std::fs::read_to_string(&files.authority).unwrap();
    let role = |names: &str| {
        json!({
            "certificate": authority,
            "allowed_common_names": names,
            "token_policies": [stage.testbed.role()],
            "token_ttl": 3,
            "token_max_ttl": 6,
        })
    };
    stage.write("auth/cert/certs/pipeline", role("")).await;
    stage.write("auth/cert/certs/other", role("somebody-else")).await;
    let over_tls = || Client::builder().address(&address).ca_cert_file(&files.authority);
    let shown = over_tls().client_cert_files(&files.client, &files.client_key).build().unwrap();
    let shown: Arc<dyn Vault> = Arc::new(shown);

    // Plain HTTP carries no certificate; this one fits no such role; and there is no such mount.
    let plain = TlsCertificate::new(stage.vault.clone()).role("pipeline");
    let other = TlsCertificate::new(shown.clone()).role("other");
    let nobody = TlsCertificate::new(shown.clone()).role("nobody");
    let elsewhere = TlsCertificate::new(shown.clone()).mount("nowhere");
    for (login, said) in [
        (plain, "no client certificate found"),
        (other, "no chain matching all constraints"),
        (nobody, "invalid certificate"),
        (elsewhere, "where no login is mounted"),
    ] {
        let error = stage.refusal(login, &[]).await;
        assert_eq!((error.kind(), error.party()), (ErrorKind::LoginRefused, Party::Vault), "{error}");
        assert!(error.message().contains(said), "{error}");
    }
    let without: Arc<dyn Vault> = Arc::new(over_tls().build().unwrap());
    let error = stage.refusal(TlsCertificate::new(without), &[]).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "the handshake fails: {error}");

    let login = TlsCertificate::new(shown.clone()).role("pipeline");
    Stage { vault: shown, ..stage }.serves(login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_written_to_a_file_is_followed_and_what_is_no_token_is_not() {
    let stage = Stage::set("approle").await;
    let path = stage.testbed.openbao().folder().join("sink");
    // As an agent does: whole, or not at all.
    let sink = |token: &str| {
        let half = path.with_extension("half");
        std::fs::write(&half, token).unwrap();
        std::fs::rename(&half, &path).unwrap();
    };
    sink(&token_of(&stage.testbed).await);
    let login: Login = Box::new(TokenFile::new(stage.vault.clone(), &path));
    let service = Service::start_with(stage.testbed, stage.recorder, stage.vault, login).await.unwrap();
    let load = service.load(50);
    let token = || service.token.current().get().unwrap().generation().number();
    for (generation, bad) in [(2, None), (3, Some("hvs.nothing")), (4, Some("two words")), (5, Some(""))] {
        if let Some(bad) = bad {
            sink(bad);
            let_pass(Duration::from_secs(3)).await;
            assert_eq!(token(), generation - 1, "{bad:?} displaces nothing");
        }
        sink(&token_of(&service.testbed).await);
        let took = wait_until("the token's successor", Duration::from_secs(10), || async {
            token() == generation
                && service.login.current().get().unwrap().parent().unwrap().generation().number()
                    == generation
        })
        .await
        .unwrap();
        // Changes that follow each other are heard at a distance that doubles: the fourth holds the next one up for eight seconds,
        // of which three have passed here.
        assert!(took < Duration::from_secs(6), "{took:?} after {bad:?}");
    }
    let measured = load.stop().await;
    assert_eq!(measured.failed, 0, "{:?}", measured.failures);
}

async fn token_of(testbed: &Testbed) -> String {
    let body = json!({ "policies": [testbed.role()], "ttl": "10m", "no_parent": true });
    let answer = testbed.openbao().request("POST", "auth/token/create", Some(body)).await.unwrap();
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}
