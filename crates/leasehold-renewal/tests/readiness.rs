//! Readiness says whether a successor is overdue, and not whether an end that is planned for comes near.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Server, secs};
use leasehold_core::{
    Error, ErrorKind, EventKind, Grant, Lease, Party, Provider, Record, Renewed, Result, Revoked, Token,
    async_trait,
    clock::{Clock, Moment, TestClock},
};
use leasehold_renewal::{Builder, Keeper};

const PERIOD: Duration = secs(60);
const MARGIN: Duration = secs(10);

/// A static role: every `PERIOD` its password is replaced, three seconds after the moment that the TTL announces.
#[derive(Clone)]
struct StaticRole {
    clock: Arc<TestClock>,
    state: Arc<Mutex<State>>,
}

struct State {
    version: u64,
    announced: Moment,
    rotates: bool,
    answers: bool,
}

impl StaticRole {
    fn new() -> Self {
        let clock = Arc::new(TestClock::new());
        let announced = clock.now() + PERIOD;
        let state = State { version: 1, announced, rotates: true, answers: true };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    async fn keeper(&self) -> Keeper<Token> {
        Builder::new().clock(self.clock.clone()).start(self.clone()).await.unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// The TTL that the server announces now, and the version of the password.
    fn look(&self) -> Option<(Duration, u64)> {
        let mut state = self.state.lock().unwrap();
        let now = self.clock.now();
        while state.rotates && state.announced + secs(3) <= now {
            (state.version, state.announced) = (state.version + 1, state.announced + PERIOD);
        }
        state.answers.then(|| (now.until(state.announced), state.version))
    }

    async fn wait(&self, how_long: Duration) {
        leasehold_core::clock::sleep_until(&*self.clock, self.clock.now() + how_long).await;
    }
}

#[async_trait]
impl Provider for StaticRole {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let down = || Error::new(ErrorKind::Unreachable, Party::Vault, "connection refused");
        let (ttl, version) = self.look().ok_or_else(down)?;
        let lease = Lease::new("", ttl + Duration::from_millis(1500), false);
        Ok(Grant::new(Token::new("password".to_owned()), lease).version(version.to_string()))
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        unreachable!("it has no lease")
    }

    async fn revoke(&self, _: &Record<Token>) -> Result<Revoked> {
        Ok(Revoked::NotOurs)
    }

    fn name(&self) -> String {
        "database/static-creds/reporter".to_owned()
    }
}

/// Looks ten times a second for so long, and returns how often it was not ready.
async fn red(role: &StaticRole, keepers: &[Keeper<Token>], how_long: Duration) -> usize {
    let (mut red, end) = (0, role.clock.now() + how_long);
    while role.clock.now() < end {
        red += keepers.iter().filter(|keeper| !keeper.health().is_ready(MARGIN)).count();
        role.wait(Duration::from_millis(100)).await;
    }
    red
}

#[tokio::test(start_paused = true)]
async fn a_static_role_is_red_on_no_replica_however_near_its_rotation_is() {
    let role = StaticRole::new();
    let mut replicas = Vec::new();
    for _ in 0..10 {
        replicas.push(role.keeper().await);
        role.wait(Duration::from_millis(700)).await;
    }
    assert_eq!(red(&role, &replicas, PERIOD * 2).await, 0);
    let generation = replicas[0].current().get().unwrap().generation();
    assert!(generation.number() >= 2, "it was rotated");
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_no_longer_rotated_is_told_and_not_red() {
    let role = StaticRole::new();
    let keeper = [role.keeper().await];
    let mut events = keeper[0].events();
    role.set(|state| state.rotates = false);
    assert_eq!(red(&role, &keeper, PERIOD * 3).await, 0, "the password goes on working");
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        told += usize::from(matches!(event.kind, EventKind::NotRotated { overdue } if overdue > secs(25)));
    }
    assert_eq!(told, 1);
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_rotated_and_cannot_be_read_is_red_before_the_password_is_refused() {
    let role = StaticRole::new();
    let keeper = [role.keeper().await];
    role.wait(secs(20)).await;
    role.set(|state| state.answers = false);
    assert_eq!(red(&role, &keeper, secs(31)).await, 0, "more than the margin is left");
    role.wait(secs(8)).await;
    let (announced, now) = (role.state.lock().unwrap().announced, role.clock.now());
    assert!(now < announced + secs(3), "the password still works");
    assert!(!keeper[0].health().is_ready(MARGIN));
    role.set(|state| state.answers = true);
    role.wait(secs(15)).await;
    assert!(keeper[0].health().is_ready(MARGIN), "{:?}", keeper[0].health());
}

#[tokio::test(start_paused = true)]
async fn a_short_lease_that_cannot_be_renewed_is_not_red_before_its_planned_replacement() {
    let server = Server::new(60, 60);
    server.set(|state| state.renewable = false);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    for _ in 0..3000 {
        assert!(keeper.health().is_ready(secs(50)), "{:?}", keeper.health());
        server.wait(Duration::from_millis(100)).await;
    }
    assert!(server.count("issue") > 4);
}

/// A provider that hangs fails in no request that anybody could count.
#[tokio::test(start_paused = true)]
async fn a_successor_that_hangs_is_overdue() {
    let server = Server::new(600, 600);
    server.set(|state| state.renewable = false);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.answer_after = secs(100_000));
    let margin = secs(30);
    while keeper.health().is_ready(margin) {
        server.wait(secs(1)).await;
    }
    let left = keeper.health().usable_for.unwrap();
    assert!(left > secs(28) && left <= margin, "{left:?} left when it turned red");
}

#[tokio::test(start_paused = true)]
async fn a_margin_beyond_all_reason_leaves_time_for_further_attempts() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.down = Some(ErrorKind::Unreachable));
    while keeper.health().is_ready(secs(3600)) {
        server.wait(secs(1)).await;
    }
    let left = keeper.health().usable_for.unwrap();
    assert!(left > secs(115) && left <= secs(120), "{left:?} left when it turned red");
}
