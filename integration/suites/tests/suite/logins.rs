//! Ways to log in, each through several tokens under load, and each with what can be wrong.

use std::{sync::Arc, time::Duration};

use leasehold_auth::{AppRole, GivenToken, Jwt, Login, UserPass};
use leasehold_core::{Error, ErrorKind, Party, Provider, Token, Vault};
use leasehold_suites::{Service, let_pass, vault, wait_until};
use leasehold_testbed::{Claims, Config, Recorder, Testbed};
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
        let testbed = Testbed::start(Config::default()).await.unwrap();
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
