//! What the provider reads, and what it makes of it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold_core::{
    Answer, Body, Current, Error, ErrorKind, ExposeSecret, Grant, Lease, Party, Provider, Result, Revoked,
    Token, Vault, async_trait,
    clock::{Clock, TestClock},
    publish::{self, Channel, Published},
};
use leasehold_secrets::StaticRole;
use serde_json::{Value, json};

struct Scripted {
    asked: Mutex<Vec<String>>,
    answers: Mutex<Result<Value>>,
}

impl Scripted {
    fn new() -> Self {
        Self { asked: Mutex::default(), answers: Mutex::new(Ok(data(MORNING, 3600))) }
    }

    fn answers(&self, data: Value) {
        *self.answers.lock().unwrap() = Ok(data);
    }

    fn fails_with(&self, kind: ErrorKind) {
        self.fails(Error::new(kind, Party::Vault, "scripted"));
    }

    fn fails(&self, error: Error) {
        *self.answers.lock().unwrap() = Err(error);
    }
}

#[async_trait]
impl Vault for Scripted {
    async fn login(&self, _: &str, _: Body) -> Result<Answer> {
        unreachable!("a secret does not log in")
    }

    async fn read(&self, token: &Token, path: &str) -> Result<Answer> {
        self.asked.lock().unwrap().push(format!("{} {path}", token.value().expose_secret()));
        let Value::Object(data) = self.answers.lock().unwrap().clone()? else { unreachable!() };
        Ok(Answer::new(Lease::endless(), data, None, Vec::new()))
    }

    async fn write(&self, _: &Token, _: &str, _: Body) -> Result<Answer> {
        unreachable!("there is nothing to renew or revoke")
    }
}

fn data(rotated: &str, ttl: u64) -> Value {
    json!({
        "username": "reporter",
        "password": format!("hunter2 of {rotated}"),
        "last_vault_rotation": rotated,
        "rotation_period": 3600,
        "ttl": ttl,
    })
}

fn publish(tokens: &mut Channel<Token>, value: &str, clock: &Arc<TestClock>) {
    let lease = Lease::new("", Duration::from_secs(100_000), true);
    tokens.publisher.publish(Grant::new(Token::new(value.to_owned()), lease), clock.now());
}

/// A role under a token, and all that is behind it.
struct Scene {
    clock: Arc<TestClock>,
    vault: Arc<Scripted>,
    tokens: Channel<Token>,
    role: StaticRole,
}

impl Scene {
    fn new() -> Self {
        let (clock, vault) = (Arc::new(TestClock::new()), Arc::new(Scripted::new()));
        let mut tokens = publish::channel("token", clock.clone());
        publish(&mut tokens, "one", &clock);
        let role = role(&vault, &tokens.current);
        Self { clock, vault, tokens, role }
    }

    /// How long the keeper may leave it before it asks again.
    async fn asked_again_in(&self, rotated: &str, ttl: u64) -> u64 {
        self.vault.answers(data(rotated, ttl));
        let usable_for = self.role.issue().await.unwrap().lease.ttl().unwrap();
        (usable_for - Duration::from_millis(500)).as_secs()
    }
}

fn role(vault: &Arc<Scripted>, token: &Current<Token>) -> StaticRole {
    StaticRole::new(vault.clone(), token.clone(), "reporter").mount("/db/")
}

#[tokio::test(start_paused = true)]
async fn the_same_password_is_the_same_version_whatever_its_ttl_and_its_token() {
    let mut scene = Scene::new();
    let mut logins = publish::channel("login", scene.clock.clone());
    let grant = scene.role.issue().await.unwrap();
    assert_eq!(grant.secret.username(), "reporter");
    assert!(grant.lease.id().is_empty() && !grant.lease.renewable() && grant.parent.is_none());
    assert!(matches!(logins.publisher.publish(grant, scene.clock.now()), Published::New(_)));

    publish(&mut scene.tokens, "two", &scene.clock);
    scene.vault.answers(data(MORNING, 1800));
    let grant = scene.role.issue().await.unwrap();
    assert!(matches!(logins.publisher.publish(grant, scene.clock.now()), Published::Same(_)));

    scene.vault.answers(data(NOON, 1800));
    let grant = scene.role.issue().await.unwrap();
    assert_eq!(grant.secret.password().expose_secret(), format!("hunter2 of {NOON}"));
    let Published::New(record) = logins.publisher.publish(grant, scene.clock.now()) else {
        panic!("a new generation")
    };
    assert_eq!(scene.role.renew(&record).await.unwrap_err().kind(), ErrorKind::NotRenewable);
    assert_eq!(scene.role.revoke(&record).await.unwrap(), Revoked::NotOurs);
    let path = "db/static-creds/reporter";
    let asked = scene.vault.asked.lock().unwrap().clone();
    assert_eq!(asked, [format!("one {path}"), format!("two {path}"), format!("two {path}")]);
}

#[tokio::test(start_paused = true)]
async fn another_user_of_the_same_role_is_another_version() {
    let scene = Scene::new();
    let before = scene.role.issue().await.unwrap();
    let mut other = data(MORNING, 3600);
    other["username"] = "writer".into();
    scene.vault.answers(other);
    assert_ne!(scene.role.issue().await.unwrap().version, before.version);
}

#[tokio::test(start_paused = true)]
async fn an_old_password_whose_ttl_has_ended_is_asked_for_each_second() {
    let scene = Scene::new();
    assert_eq!(scene.asked_again_in(MORNING, 10).await, 11);
    scene.clock.suspend(Duration::from_secs(8));
    assert_eq!(scene.asked_again_in(MORNING, 2).await, 3);
    for _ in 0..6 {
        scene.clock.suspend(Duration::from_secs(1));
        assert_eq!(scene.asked_again_in(MORNING, 0).await, 1);
    }
    assert_eq!(scene.asked_again_in(NOON, 10).await, 11);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_late_by_minutes_is_asked_for_seldom() {
    let scene = Scene::new();
    let mut asked = 0;
    let begin = scene.clock.now();
    while begin.until(scene.clock.now()) < Duration::from_secs(3600) {
        let wait = scene.asked_again_in(MORNING, 0).await;
        assert!((1..=15).contains(&wait), "{wait}");
        scene.clock.suspend(Duration::from_secs(wait));
        asked += 1;
    }
    assert!((240..290).contains(&asked), "{asked} times in an hour");
    assert_eq!(scene.asked_again_in(NOON, 3600).await, 3601);
}

/// Vault #31918: the TTL of a `rotation_schedule` begins anew before the password is replaced.
#[tokio::test(start_paused = true)]
async fn a_ttl_that_begins_anew_with_the_old_password_is_not_believed() {
    let scene = Scene::new();
    assert_eq!(scene.asked_again_in(MORNING, 60).await, 61);
    scene.clock.suspend(Duration::from_secs(60));
    assert_eq!(scene.asked_again_in(MORNING, 3600).await, 1);
    scene.clock.suspend(Duration::from_secs(4));
    assert_eq!(scene.asked_again_in(MORNING, 3596).await, 1);
    assert_eq!(scene.asked_again_in(NOON, 3595).await, 3596);
}

#[tokio::test(start_paused = true)]
async fn a_period_that_somebody_makes_longer_is_believed() {
    let scene = Scene::new();
    assert_eq!(scene.asked_again_in(MORNING, 60).await, 61);
    scene.clock.suspend(Duration::from_secs(30));
    assert_eq!(scene.asked_again_in(MORNING, 7200).await, 7201, "before its end at once");
    scene.clock.suspend(Duration::from_secs(7200));
    assert_eq!(scene.asked_again_in(MORNING, 7200).await, 1);
    scene.clock.suspend(Duration::from_secs(301));
    assert_eq!(scene.asked_again_in(MORNING, 6899).await, 6900, "at its end after five minutes");
}

/// A clone with another mount is another role, whose rotations are its own.
#[tokio::test(start_paused = true)]
async fn a_clone_does_not_forget_for_the_role_it_was_made_from() {
    let scene = Scene::new();
    assert_eq!(scene.asked_again_in(MORNING, 60).await, 61);
    scene.vault.answers(data(NOON, 3600));
    scene.role.clone().mount("elsewhere").issue().await.unwrap();
    scene.clock.suspend(Duration::from_secs(60));
    assert_eq!(scene.asked_again_in(MORNING, 3600).await, 1, "a TTL that begins anew is not believed");
}

#[tokio::test(start_paused = true)]
async fn an_absurd_ttl_is_a_long_one() {
    let scene = Scene::new();
    for ttl in [u64::MAX, u64::MAX / 1_000, i64::MAX as u64 + 1] {
        assert!(scene.asked_again_in(MORNING, ttl).await > 1_000_000_000);
    }
}

/// A read makes nothing that could be left behind, so it may be repeated at the usual pace.
#[tokio::test(start_paused = true)]
async fn a_read_that_is_not_answered_leaves_nothing() {
    let scene = Scene::new();
    scene.vault.fails(Error::new(ErrorKind::Unreachable, Party::Vault, "scripted").unanswered());
    assert!(!scene.role.issue().await.unwrap_err().may_have_been_carried_out());
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_reported_to_its_keeper_and_another_failure_is_not() {
    let mut scene = Scene::new();
    for (kind, reported) in [(ErrorKind::Denied, false), (ErrorKind::DeadToken, true)] {
        scene.vault.fails_with(kind);
        assert_eq!(scene.role.issue().await.unwrap_err().kind(), kind);
        assert_eq!(scene.tokens.rejections.try_recv().is_some(), reported, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_ended_is_waited_for_and_costs_no_request() {
    let mut scene = Scene::new();
    let record = scene.tokens.publisher.record().unwrap();
    scene.tokens.publisher.presume_dead(&record);
    assert_eq!(scene.role.issue().await.unwrap_err().kind(), ErrorKind::NotYet);
    assert!(scene.vault.asked.lock().unwrap().is_empty());
    publish(&mut scene.tokens, "two", &scene.clock);
    assert!(scene.role.issue().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lacks_something_says_what_and_tells_no_password() {
    let scene = Scene::new();
    for field in ["username", "password", "last_vault_rotation", "ttl"] {
        let mut answer = data(MORNING, 3600);
        answer.as_object_mut().unwrap().remove(field);
        scene.vault.answers(answer);
        let error = scene.role.issue().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(error.kind() == ErrorKind::Unexpected && text.contains(&format!("`{field}`")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn debug_and_name_tell_the_path_only() {
    let scene = Scene::new();
    let grant = scene.role.issue().await.unwrap();
    assert_eq!(scene.role.name(), "db/static-creds/reporter");
    let text = format!("{:?} {grant:?} {:?}", scene.role, grant.secret);
    assert!(text.starts_with(r#"StaticRole { path: "db/static-creds/reporter", .. }"#), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

const MORNING: &str = "2026-01-01T06:00:00.123456789Z";
const NOON: &str = "2026-01-01T12:00:00.123456789Z";
