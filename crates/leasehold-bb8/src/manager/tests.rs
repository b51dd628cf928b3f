//! What a connection that comes back may be exchanged for, and when.

use std::{
    future::pending,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bb8::ManageConnection as _;
use futures_util::FutureExt;
use leasehold_core::{
    Generation, Grant, Lease,
    clock::{Clock, SystemClock, sleep_until},
    publish::{self, Channel},
};

use super::*;

/// A database whose connections work until they are broken.
#[derive(Default)]
struct Scripted {
    opened: AtomicUsize,
    refuses_checks: AtomicBool,
}

struct Link {
    number: usize,
    is_broken: bool,
}

impl Connect for Scripted {
    type Connection = Link;

    async fn connect(&self, _: &Credentials) -> Result<Link> {
        Ok(Link { number: self.opened.fetch_add(1, Ordering::Relaxed) + 1, is_broken: false })
    }

    async fn check(&self, _: &mut Link) -> Result<()> {
        match self.refuses_checks.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::DatabaseUnavailable, Party::Database, "scripted")),
            false => Ok(()),
        }
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.is_broken
    }
}

struct Stage {
    channel: Channel<Credentials>,
    manager: Manager<Scripted>,
    /// Of the first generation, in a caller's hands.
    old: Connection<Link>,
    /// Of the second, which is in force.
    fresh: Connection<Link>,
}

impl Stage {
    /// The first generation lasts that long.
    async fn with(ttl: Duration) -> Self {
        let mut channel = publish::channel("database/creds/test", Arc::new(SystemClock));
        publish(&mut channel, "old", ttl);
        let manager = Manager::new(Scripted::default(), channel.current.clone()).unwrap();
        manager.shared.proved(None);
        let old = manager.connect().await.unwrap();
        publish(&mut channel, "new", HOUR);
        manager.shared.in_force.switch(&channel.current.get().unwrap());
        let fresh = manager.connect().await.unwrap();
        Self { channel, manager, old, fresh }
    }

    async fn new() -> Self {
        Self::with(HOUR).await
    }

    /// Gives the old connection back while the fresh one is offered for it. Returns whether its place is closed, what is
    /// in it, and what has become of the offer.
    async fn give_back(self) -> (bool, usize, Outcome) {
        let Self { manager, mut old, fresh, channel } = self;
        let until = sleep_until(&SystemClock, SystemClock.now() + Duration::from_millis(20));
        let mut offer = pin!(manager.shared.relay.exchange(Generation::new(1), fresh, until));
        assert!((&mut offer).now_or_never().is_none(), "it is offered");
        let is_closed = manager.has_broken(&mut old);
        let outcome = match offer.await {
            Ok(taken) => Outcome::Taken(taken.map(|old| old.number)),
            Err(left) => Outcome::Left(left.number),
        };
        drop(channel);
        (is_closed, old.number, outcome)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// And this is to be closed.
    Taken(Option<usize>),
    Left(usize),
}

fn publish(channel: &mut Channel<Credentials>, user: &str, ttl: Duration) {
    let grant = Grant::new(Credentials::new(user, "p".to_owned()), Lease::new("lease", ttl, true));
    channel.publisher.publish(grant, SystemClock.now());
}

#[tokio::test]
async fn what_comes_back_is_exchanged_for_what_is_offered() {
    let stage = Stage::new().await;
    assert_eq!(stage.give_back().await, (false, 2, Outcome::Taken(Some(1))));
}

#[tokio::test]
async fn what_has_ended_is_exchanged_and_its_place_stays() {
    let stage = Stage::with(Duration::ZERO).await;
    assert_eq!(stage.old.tagged.tag().freshness(), Freshness::Ended);
    assert_eq!(stage.give_back().await, (false, 2, Outcome::Taken(Some(1))));
}

#[tokio::test]
async fn nothing_takes_a_place_that_is_closed_as_broken() {
    let mut stage = Stage::new().await;
    stage.old.is_broken = true;
    assert_eq!(stage.give_back().await, (true, 1, Outcome::Left(2)));
}

/// bb8 then calls `has_broken`, and closes it whatever that answers.
#[tokio::test]
async fn nothing_takes_a_place_that_is_closed_at_check_out() {
    let mut stage = Stage::new().await;
    stage.manager.shared.connect.refuses_checks.store(true, Ordering::Relaxed);
    stage.manager.is_valid(&mut stage.old).await.unwrap_err();
    assert_eq!(stage.give_back().await, (true, 1, Outcome::Left(2)));

    let mut stage = Stage::with(Duration::ZERO).await;
    stage.manager.is_valid(&mut stage.old).await.unwrap_err();
    assert_eq!(stage.give_back().await, (true, 1, Outcome::Left(2)));
}

/// bb8 then closes it after `has_broken`.
#[tokio::test]
async fn nothing_takes_a_place_that_is_closed_for_its_age() {
    let mut stage = Stage::new().await;
    stage.manager.shared.max_lifetime.set(MINUTE).unwrap();
    stage.old.place_since = Instant::now().checked_sub(MINUTE - MARGIN).unwrap();
    assert_eq!(stage.give_back().await, (false, 1, Outcome::Left(2)));

    let mut stage = Stage::new().await;
    stage.manager.shared.max_lifetime.set(MINUTE).unwrap();
    stage.old.place_since = Instant::now().checked_sub(MINUTE / 2).unwrap();
    assert_eq!(stage.give_back().await, (false, 2, Outcome::Taken(Some(1))));
}

#[tokio::test]
async fn what_is_offered_keeps_the_age_of_the_place_it_takes() {
    let Stage { manager, mut old, fresh, channel } = Stage::new().await;
    let since = Instant::now().checked_sub(MINUTE / 2).unwrap();
    old.place_since = since;
    let mut offer = pin!(manager.shared.relay.exchange(Generation::new(1), fresh, pending()));
    assert!((&mut offer).now_or_never().is_none());
    manager.has_broken(&mut old);
    assert_eq!((old.number, old.place_since), (2, since));
    drop(channel);
}

#[tokio::test]
async fn what_is_offered_and_of_no_use_takes_no_place() {
    let mut stage = Stage::new().await;
    stage.fresh.is_broken = true;
    assert_eq!(stage.give_back().await, (false, 1, Outcome::Left(2)));
}

#[tokio::test]
async fn what_the_rotation_gives_back_is_not_exchanged() {
    let mut stage = Stage::new().await;
    stage.old.ours = true;
    assert_eq!(stage.give_back().await, (false, 1, Outcome::Left(2)));
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
