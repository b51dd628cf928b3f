//! A keeper that publishes what it is told: OpenBao is not what is measured here.

use std::{sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Current, Grant, Lease,
    clock::{Clock as _, SystemClock},
    publish::{self, Channel},
};

/// Publishes users who were made beforehand, one after the other.
pub(crate) struct KeeperByHand {
    channel: Channel<Credentials>,
    next: std::vec::IntoIter<Credentials>,
}

impl KeeperByHand {
    /// The first of them is published at once.
    pub(crate) fn new(users: Vec<Credentials>) -> Self {
        let channel = publish::channel("database/creds/bench", Arc::new(SystemClock));
        let mut keeper = Self { channel, next: users.into_iter() };
        keeper.rotate();
        keeper
    }

    pub(crate) fn current(&self) -> Current<Credentials> {
        self.channel.current.clone()
    }

    /// Publishes the next. Without one nothing happens.
    pub(crate) fn rotate(&mut self) {
        if let Some(user) = self.next.next() {
            let lease = Lease::new("lease", DAY, true);
            self.channel.publisher.publish(Grant::new(user, lease), SystemClock.now());
        }
    }
}

/// No lease ends while it is measured.
const DAY: Duration = Duration::from_secs(86_400);
