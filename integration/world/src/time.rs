//! Time in the world.
//!
//! tokio's paused clock is enough for it. One thread runs every task, so their order is tokio's queue, first in and first out.
//! Time moves only when no task can go on, and then to the next timer. The code that decides waits in an order of its own
//! (`biased`) and wakes its waiters in the order in which they came, so nothing is left to chance but the draws, and these come
//! from the world's streams.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use leasehold_core::clock::{Clock, Moment, sleep_until};
use tokio::{sync::watch, time::Instant};

/// The time of everybody in the world: of the servers, and of the one host on which the service runs.
#[derive(Debug)]
pub(crate) struct Time {
    zero: Instant,
    slept: AtomicU64,
    clocks: Mutex<Vec<watch::Sender<u64>>>,
}

/// The clock of one keeper or one pool, with its own stream of draws.
#[derive(Debug)]
pub(crate) struct OwnClock {
    time: Arc<Time>,
    jumps: watch::Sender<u64>,
    chance: Mutex<Chance>,
}

#[derive(Debug)]
struct Chance {
    draws: Rng,
    /// How often it was asked at this moment: a keeper draws once a step.
    at: Moment,
    count: u32,
}

impl Time {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { zero: Instant::now(), slept: AtomicU64::new(BEGIN), clocks: Mutex::default() })
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::from_nanos(self.slept.load(Ordering::Relaxed)) + self.zero.elapsed()
    }

    /// Seconds since the world began.
    pub(crate) fn seconds(&self) -> f64 {
        Moment::from_nanos(BEGIN).until(self.now()).as_secs_f64()
    }

    /// The moment so many milliseconds after the beginning.
    pub(crate) fn at_millis(&self, millis: u64) -> Moment {
        Moment::from_nanos(BEGIN) + Duration::from_millis(millis)
    }

    pub(crate) fn clock(self: &Arc<Self>, draws: Rng) -> Arc<OwnClock> {
        let jumps = watch::channel(0).0;
        lock(&self.clocks).push(jumps.clone());
        let chance = Mutex::new(Chance { draws, at: Moment::NEVER, count: 0 });
        Arc::new(OwnClock { time: Arc::clone(self), jumps, chance })
    }

    /// The host stands still for so long, while the servers go on.
    pub(crate) fn suspend(&self, how_long: Duration) {
        let nanos = u64::try_from(how_long.as_nanos()).unwrap_or(u64::MAX / 2);
        self.slept.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Everybody hears that time may have jumped, in the order in which their clocks were made.
    pub(crate) fn tell_of_a_jump(&self) {
        for jumps in &*lock(&self.clocks) {
            jumps.send_modify(|count| *count += 1);
        }
    }

    pub(crate) async fn pass(self: &Arc<Self>, time: Duration) {
        sleep_until(&**self, self.now() + time).await;
    }
}

/// The world's own tasks hear of no jumps; a timer of theirs that a suspension makes late is late.
impl Clock for Time {
    fn now(&self) -> Moment {
        Self::now(self)
    }

    fn jumps(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

impl Clock for OwnClock {
    fn now(&self) -> Moment {
        self.time.now()
    }

    fn jumps(&self) -> watch::Receiver<u64> {
        self.jumps.subscribe()
    }

    fn draw(&self) -> f64 {
        let mut chance = lock(&self.chance);
        let now = self.time.now();
        chance.count = if chance.at == now { chance.count + 1 } else { 0 };
        chance.at = now;
        #[expect(clippy::panic, reason = "a loop that does not let time pass would never end")]
        if chance.count > MOST_STEPS {
            drop(chance);
            panic!("the keeper spins: more than {MOST_STEPS} steps at one moment");
        }
        chance.draws.f64()
    }
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Long before the world, so that a moment may be earlier than its beginning.
const BEGIN: u64 = 1_000_000_000_000;
const MOST_STEPS: u32 = 1_000;
