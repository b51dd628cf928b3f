//! A keeper that publishes what it is told.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, Event, EventKind, Generation, Grant, Lease,
    clock::{Clock, SystemClock},
    publish::{self, Channel},
};
use tokio::{sync::broadcast, time::timeout};

/// What a keeper would hold.
pub(crate) struct Keeper {
    pub(crate) channel: Channel<Credentials>,
    pub(crate) events: broadcast::Receiver<Event>,
}

impl Keeper {
    pub(crate) fn new() -> Self {
        let channel = publish::channel("database/creds/test", Arc::new(SystemClock));
        let events = channel.current.events();
        Self { channel, events }
    }

    /// A keeper that has published these credentials for an hour.
    pub(crate) fn with(user: &str, password: &str) -> Self {
        let mut keeper = Self::new();
        keeper.publish(user, password, HOUR);
        keeper
    }

    pub(crate) fn publish(&mut self, user: &str, password: &str, ttl: Duration) -> Generation {
        let grant = Grant::new(Credentials::new(user, password.to_owned()), Lease::new("lease", ttl, true));
        self.channel.publisher.publish(grant, SystemClock.now());
        self.channel.current.get().unwrap().generation()
    }

    pub(crate) fn current(&self) -> Current<Credentials> {
        self.channel.current.clone()
    }

    /// Waits for an event of a generation that `pick` picks.
    pub(crate) async fn event<T>(&mut self, of: Generation, pick: impl Fn(&EventKind) -> Option<T>) -> T {
        let picking = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(picked) = pick(&event.kind).filter(|_| event.generation == of) {
                    return picked;
                }
            }
        };
        timeout(Duration::from_secs(20), picking).await.expect("the event did not come")
    }

    pub(crate) async fn adopted(&mut self, generation: Generation) {
        self.event(generation, |kind| matches!(kind, EventKind::Adopted).then_some(())).await;
    }

    pub(crate) async fn retired(&mut self, generation: Generation) -> Option<usize> {
        let retired = |kind: &EventKind| match kind {
            EventKind::Retired { remaining } => Some(*remaining),
            _ => None,
        };
        self.event(generation, retired).await
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
