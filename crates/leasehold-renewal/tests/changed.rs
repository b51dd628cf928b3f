//! Secrets that somebody else replaces: an entry that is polled, and a file that shows when it changes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{error, secs};
use leasehold_core::{
    ErrorKind, EventKind, ExposeSecret, Grant, Lease, Provider, Record, Renewed, Result, Revoked, Status,
    Token, async_trait,
    clock::{Clock, TestClock, sleep_until},
};
use leasehold_renewal::{Builder, Keeper};

/// What somebody else writes, and how it may be had.
struct Written {
    clock: Arc<TestClock>,
    lease: Lease,
    shows: bool,
    value: Mutex<&'static str>,
    tried: Mutex<&'static str>,
    fails_with: Mutex<Option<ErrorKind>>,
    /// How often it was asked for, and how often renewed.
    requests: Mutex<(u32, u32)>,
}

impl Written {
    fn new(lease: Lease, shows: bool) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(TestClock::new()),
            lease,
            shows,
            value: Mutex::new("one"),
            tried: Mutex::new("nothing"),
            fails_with: Mutex::default(),
            requests: Mutex::default(),
        })
    }

    fn write(&self, value: &'static str) {
        *self.value.lock().unwrap() = value;
    }

    async fn start(self: &Arc<Self>) -> Keeper<Token> {
        Builder::new().clock(self.clock.clone()).start(Arc::clone(self)).await.unwrap()
    }

    async fn wait(&self, how_long: Duration) {
        sleep_until(&*self.clock, self.clock.now() + how_long).await;
    }

    fn issues(&self) -> u32 {
        self.requests.lock().unwrap().0
    }
}

#[async_trait]
impl Provider for Written {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.requests.lock().unwrap().0 += 1;
        *self.tried.lock().unwrap() = *self.value.lock().unwrap();
        if let Some(kind) = *self.fails_with.lock().unwrap() {
            return Err(error(kind));
        }
        let value = *self.value.lock().unwrap();
        Ok(Grant::new(Token::new(value.to_owned()), self.lease.clone()).version(value))
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        self.requests.lock().unwrap().1 += 1;
        Ok(Renewed { ttl: self.lease.increment() })
    }

    async fn revoke(&self, _: &Record<Token>) -> Result<Revoked> {
        Ok(Revoked::NotOurs)
    }

    async fn changed(&self, _: &Record<Token>) {
        while !self.shows || *self.value.lock().unwrap() == *self.tried.lock().unwrap() {
            self.wait(secs(1)).await;
        }
    }

    fn name(&self) -> String {
        "written".to_owned()
    }
}

fn value(keeper: &Keeper<Token>) -> String {
    keeper.current().get().unwrap().secret().value().expose_secret().to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_polled_and_a_new_version_is_a_new_generation() {
    let entry = Written::new(Lease::endless().polled(secs(60)), false);
    let keeper = entry.start().await;
    let mut current = keeper.current();
    entry.wait(secs(3600)).await;
    let polls = entry.issues();
    assert!((60..=75).contains(&polls), "{polls} in an hour");
    assert_eq!(keeper.current().get().unwrap().generation().number(), 1);
    let written_at = entry.clock.now();
    entry.write("two");
    current.changed().await.unwrap();
    assert_eq!(value(&keeper), "two");
    assert!(written_at.until(entry.clock.now()) <= secs(60));
    assert_eq!(keeper.health().usable_for, None, "it does not end");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_stays_what_it_was() {
    let entry = Written::new(Lease::endless().polled(secs(10)), false);
    let keeper = entry.start().await;
    let mut events = keeper.events();
    for kind in [ErrorKind::Unreachable, ErrorKind::NotFound, ErrorKind::Configuration] {
        *entry.fails_with.lock().unwrap() = Some(kind);
        let before = entry.issues();
        entry.wait(secs(3600)).await;
        assert!(keeper.health().is_usable() && keeper.health().status != Status::Healthy, "{kind}");
        let asked = entry.issues() - before;
        assert!((50..=400).contains(&asked), "{kind}: {asked} in an hour");
        *entry.fails_with.lock().unwrap() = None;
        entry.wait(secs(70)).await;
        assert!(keeper.health().status == Status::Healthy, "{kind}");
    }
    let mut issued = 0;
    while let Ok(event) = events.try_recv() {
        issued += u32::from(matches!(event.kind, EventKind::Issued { .. }));
    }
    assert_eq!((value(&keeper).as_str(), issued), ("one", 0));
}

#[tokio::test(start_paused = true)]
async fn what_shows_that_it_has_changed_is_asked_for_at_once() {
    let file = Written::new(Lease::new("", secs(3600), true), true);
    let keeper = file.start().await;
    file.wait(secs(600)).await;
    assert_eq!(file.issues(), 1);
    file.write("two");
    file.wait(secs(2)).await;
    assert_eq!((value(&keeper).as_str(), file.issues()), ("two", 2));
}

/// The file holds what is good for nothing, and what was in it before still is.
#[tokio::test(start_paused = true)]
async fn a_change_for_the_worse_is_tried_at_a_pace_and_the_old_one_is_kept_alive() {
    let file = Written::new(Lease::new("", secs(100), true), true);
    let keeper = file.start().await;
    file.write("two");
    *file.fails_with.lock().unwrap() = Some(ErrorKind::LoginRefused);
    file.wait(secs(3600)).await;
    assert!(keeper.health().is_usable(), "{:?}", keeper.health());
    let (issues, renewals) = *file.requests.lock().unwrap();
    assert!(issues < 200 && renewals > 30, "{issues} issues, {renewals} renewals in an hour");
    assert_eq!(value(&keeper), "one");
    *file.fails_with.lock().unwrap() = None;
    file.write("three");
    file.wait(secs(3)).await;
    assert_eq!(value(&keeper), "three", "news end the waiting for what failed");
}

/// Says at each moment that there is another, which there is not.
struct Restless(Arc<Written>);

#[async_trait]
impl Provider for Restless {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.0.issue().await
    }

    async fn renew(&self, of: &Record<Token>) -> Result<Renewed> {
        self.0.renew(of).await
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.0.revoke(of).await
    }

    async fn changed(&self, _: &Record<Token>) {}

    fn name(&self) -> String {
        self.0.name()
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_always_has_another_is_no_hot_loop() {
    for fails_with in [None, Some(ErrorKind::LoginRefused)] {
        let written = Written::new(Lease::new("", secs(100), true), true);
        let clock = written.clock.clone();
        let keeper = Builder::new().clock(clock).start(Restless(written.clone())).await.unwrap();
        *written.fails_with.lock().unwrap() = fails_with;
        written.wait(secs(600)).await;
        assert!((30..=300).contains(&written.issues()), "{} in ten minutes", written.issues());
        assert!(keeper.current().get().is_ok());
    }
}
