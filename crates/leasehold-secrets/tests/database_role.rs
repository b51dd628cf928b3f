//! What the provider asks of the server, and with which token.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold_core::{
    Answer, Body, Current, Error, ErrorKind, ExposeSecret, Grant, Lease, Party, Provider, Result, Revoked,
    Token, Uses, Vault, async_trait,
    clock::{Clock, TestClock},
    publish::{self, Channel, Published},
};
use leasehold_secrets::DatabaseRole;
use serde_json::{Value, json};

#[derive(Default)]
struct Scripted {
    asked: Mutex<Vec<String>>,
    fails_with: Mutex<Option<ErrorKind>>,
}

impl Scripted {
    fn answer(&self, token: &Token, path: &str, body: &Value) -> Result<Answer> {
        self.asked.lock().unwrap().push(format!("{} {path} {body}", token.value().expose_secret()));
        if let Some(kind) = *self.fails_with.lock().unwrap() {
            return Err(Error::new(kind, Party::Vault, "scripted"));
        }
        let Value::Object(data) = json!({"username": "v-pipeline", "password": "p@:/%#?'\" \\"}) else {
            unreachable!()
        };
        let lease = Lease::new("database/creds/pipeline/1", Duration::from_secs(60), true);
        Ok(Answer::new(lease, data, None, Vec::new()))
    }
}

#[async_trait]
impl Vault for Scripted {
    async fn login(&self, _: &str, _: Body) -> Result<Answer> {
        unreachable!("a secret does not log in")
    }

    async fn read(&self, token: &Token, path: &str) -> Result<Answer> {
        self.answer(token, path, &Value::Null)
    }

    async fn write(&self, token: &Token, path: &str, body: Body) -> Result<Answer> {
        self.answer(token, path, &body.into_fields().into())
    }
}

fn tokens(clock: &Arc<TestClock>) -> Channel<Token> {
    let mut tokens = publish::channel("token", clock.clone());
    publish(&mut tokens, "one", clock);
    tokens
}

fn publish(tokens: &mut Channel<Token>, value: &str, clock: &Arc<TestClock>) {
    let lease = Lease::new("", Duration::from_secs(100), true);
    tokens.publisher.publish(Grant::new(Token::new(value.to_owned()), lease), clock.now());
}

fn role(vault: &Arc<Scripted>, token: &Current<Token>) -> DatabaseRole {
    DatabaseRole::new(vault.clone(), token.clone(), "pipeline").mount("/db/")
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_and_revoked_with_its_own_token_while_that_lives() {
    let (clock, vault) = (Arc::new(TestClock::new()), Arc::new(Scripted::default()));
    let mut tokens = tokens(&clock);
    let role = role(&vault, &tokens.current);
    let mut logins = publish::channel("login", clock.clone());
    let grant = role.issue().await.unwrap();
    assert_eq!(grant.secret.password().expose_secret(), "p@:/%#?'\" \\");
    let Published::New(record) = logins.publisher.publish(grant, clock.now()) else {
        panic!("a new generation")
    };

    publish(&mut tokens, "two", &clock);
    role.renew(&record).await.unwrap();
    clock.suspend(Duration::from_secs(101));
    assert_eq!(role.revoke(&record).await.unwrap(), Revoked::Done);
    assert_eq!(
        *vault.asked.lock().unwrap(),
        [
            "one db/creds/pipeline null",
            r#"one sys/leases/renew {"increment":60,"lease_id":"database/creds/pipeline/1"}"#,
            r#"two sys/leases/revoke {"lease_id":"database/creds/pipeline/1"}"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_reported_to_its_keeper_and_another_failure_is_not() {
    let (clock, vault) = (Arc::new(TestClock::new()), Arc::new(Scripted::default()));
    let mut tokens = tokens(&clock);
    let role = role(&vault, &tokens.current);
    for (kind, reported) in [(ErrorKind::Denied, false), (ErrorKind::DeadToken, true)] {
        *vault.fails_with.lock().unwrap() = Some(kind);
        assert_eq!(role.issue().await.unwrap_err().kind(), kind);
        assert_eq!(tokens.rejections.try_recv().is_ok(), reported, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_can_be_cut_short_until_its_first_renewal() {
    let (clock, vault) = (Arc::new(TestClock::new()), Arc::new(Scripted::default()));
    let tokens = tokens(&clock);
    let grant = role(&vault, &tokens.current).first_ttl(Duration::from_secs(20)).issue().await.unwrap();
    assert_eq!(grant.lease.increment(), Duration::from_secs(60), "what each renewal asks for");
    role(&vault, &tokens.current).first_ttl(Duration::from_secs(60)).issue().await.unwrap();
    assert_eq!(
        *vault.asked.lock().unwrap(),
        [
            "one db/creds/pipeline null",
            r#"one sys/leases/renew {"increment":20,"lease_id":"database/creds/pipeline/1"}"#,
            "one db/creds/pipeline null",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_use_of_a_token_is_not_spent_on_what_would_end_with_it() {
    let (clock, vault) = (Arc::new(TestClock::new()), Arc::new(Scripted::default()));
    let mut tokens = publish::channel("token", clock.clone());
    let uses = Uses::new(2);
    let token = Token::new("one".to_owned()).with_uses(Some(uses.clone()));
    let lease = Lease::new("", Duration::from_secs(100), true);
    tokens.publisher.publish(Grant::new(token, lease), clock.now());
    let role = role(&vault, &tokens.current);
    let mut logins = publish::channel("login", clock.clone());
    let grant = role.issue().await.unwrap();
    let Published::New(record) = logins.publisher.publish(grant, clock.now()) else {
        panic!("a new generation")
    };
    uses.take_one();
    assert_eq!(role.renew(&record).await.unwrap_err().kind(), ErrorKind::NotRenewable);
    let error = role.issue().await.unwrap_err();
    assert!(error.kind() == ErrorKind::DeadToken && error.message().contains("token_num_uses"), "{error}");
    assert_eq!(vault.asked.lock().unwrap().len(), 1);
    assert!(tokens.rejections.try_recv().is_ok(), "its keeper is to get another");
}

#[tokio::test(start_paused = true)]
async fn debug_and_name_tell_the_path_only() {
    let (clock, vault) = (Arc::new(TestClock::new()), Arc::new(Scripted::default()));
    let tokens = tokens(&clock);
    let role = role(&vault, &tokens.current);
    assert_eq!(role.name(), "db/creds/pipeline");
    assert_eq!(format!("{role:?}"), r#"DatabaseRole { path: "db/creds/pipeline", .. }"#);
}

/// Answers with a credential type that a pool cannot use.
struct Keys(Mutex<Vec<String>>);

#[async_trait]
impl Vault for Keys {
    async fn login(&self, _: &str, _: Body) -> Result<Answer> {
        unreachable!("a secret does not log in")
    }

    async fn read(&self, _: &Token, path: &str) -> Result<Answer> {
        self.0.lock().unwrap().push(path.to_owned());
        let Value::Object(data) = json!({"username": "v", "rsa_private_key": "x"}) else { unreachable!() };
        let lease = Lease::new("db/creds/pipeline/1", Duration::from_secs(60), true);
        Ok(Answer::new(lease, data, None, Vec::new()))
    }

    async fn write(&self, _: &Token, path: &str, _: Body) -> Result<Answer> {
        self.0.lock().unwrap().push(path.to_owned());
        Ok(Answer::empty())
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_used_leaves_no_lease() {
    let (clock, vault) = (Arc::new(TestClock::new()), Arc::new(Keys(Mutex::default())));
    let tokens = tokens(&clock);
    let role = DatabaseRole::new(vault.clone(), tokens.current.clone(), "pipeline");
    let error = role.issue().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error.message().starts_with("database/creds/pipeline: ")
            && error.message().contains("credential_type"),
        "{error}"
    );
    assert_eq!(*vault.0.lock().unwrap(), ["database/creds/pipeline", "sys/leases/revoke"]);
}
