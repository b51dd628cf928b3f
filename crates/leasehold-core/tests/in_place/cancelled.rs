//! Rotations that are dropped at any of the moments in which they wait.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use leasehold_core::Rotate;

use crate::{
    pool::{Room, WhenSaturated},
    stage::{Stage, millis, secs},
};

/// Where the future is dropped.
#[derive(Clone, Copy, Debug)]
enum When {
    AfterPolls(usize),
    After(Duration),
}

/// Polls a future until it is to be dropped; returns whether it was.
async fn dropped<T>(stage: &Stage, when: When, future: impl Future<Output = T>) -> bool {
    match when {
        When::AfterPolls(polls) => AtMost { future: Box::pin(future), polls }.await.is_none(),
        When::After(time) => tokio::select! {
            _ = future => false,
            () = stage.pass(time) => true,
        },
    }
}

struct AtMost<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for AtMost<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Some(left) = self.polls.checked_sub(1) else { return Poll::Ready(None) };
        self.polls = left;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    room: Room,
    when_saturated: WhenSaturated,
    is_full: bool,
    is_surplus: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for room in [Room::Kept, Room::Filled, Room::Refilled] {
            all.push(Self { room, when_saturated: WhenSaturated::Nothing, is_full: true, is_surplus: false });
        }
        for when_saturated in [WhenSaturated::Nothing, WhenSaturated::Queue, WhenSaturated::ExchangeNext] {
            for is_full in [false, true] {
                all.push(Self { room: Room::Kept, when_saturated, is_full, is_surplus: false });
            }
        }
        all.push(Self {
            room: Room::Kept,
            when_saturated: WhenSaturated::Nothing,
            is_full: false,
            is_surplus: true,
        });
        all
    }

    fn stage(self) -> Stage {
        let stage = Stage::of(SIZE);
        stage.pool.server().limit(if self.is_full { SIZE } else { usize::MAX });
        stage.pool.set(|script| {
            script.room = self.room;
            script.when_saturated = self.when_saturated;
            script.is_surplus = self.is_surplus;
        });
        stage
    }

    fn most(self) -> usize {
        SIZE + usize::from(!self.is_full)
    }
}

/// Every moment, until one at which the future is done.
async fn at_every_moment(each: impl AsyncFn(When) -> bool) {
    for polls in 0.. {
        if !each(When::AfterPolls(polls)).await {
            break;
        }
    }
    let mut ticks = 0;
    while each(When::After(millis(ticks))).await {
        ticks += 1;
    }
    assert!(ticks > 5, "it was interrupted {ticks} times");
}

/// Lends everything out for a while, if that is what the case is about.
async fn borrowed_for(stage: &Stage, case: Case, time: Duration) {
    if case.when_saturated == WhenSaturated::Nothing {
        return std::future::pending().await;
    }
    let mut borrowed = stage.borrow_all(stage.pool.idle().len());
    stage.pass(time).await;
    while let Some(slot) = borrowed.pop() {
        assert!(slot.is_alive(), "{case:?}: a caller has a dead connection");
        drop(slot);
        stage.pass(millis(3)).await;
    }
    std::future::pending().await
}

fn nothing_is_lost(stage: &Stage, what: &str, expected: u64) {
    let surplus = stage.pool.empty();
    assert_eq!(stage.pool.idle(), vec![Some(expected); SIZE - surplus], "{what}");
    assert_eq!(stage.pool.server().sessions(), SIZE - surplus, "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_retirement_may_be_dropped_at_any_moment() {
    for case in Case::all() {
        at_every_moment(async |when| {
            let mut stage = case.stage();
            stage.adopted("second").await;
            let retiring = async {
                tokio::select! {
                    remaining = stage.retire() => assert_eq!(remaining, 0),
                    () = borrowed_for(&stage, case, millis(150)) => {}
                }
            };
            let interrupted = dropped(&stage, when, retiring).await;
            let what = format!("{case:?} {when:?}");
            // As the driver does: what came meanwhile is adopted at once, and both before it are retired.
            let second = stage.channel.current.get().unwrap();
            stage.adopted("third").await;
            assert_eq!(stage.retire().await, 0, "{what}");
            assert_eq!(stage.rotation.retire(&second).await.remaining, Some(0), "{what}");
            assert!(stage.pool.empty() == 0 || case.is_surplus, "{what}: a place is empty");
            nothing_is_lost(&stage, &what, 3);
            assert!(
                stage.pool.server().most() <= case.most(),
                "{what}: {} sessions",
                stage.pool.server().most()
            );
            interrupted
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_retirement_leaves_no_dead_connection_in_the_pool() {
    for case in Case::all() {
        at_every_moment(async |when| {
            let mut stage = case.stage();
            stage.adopted("second").await;
            let interrupted = dropped(&stage, when, stage.retire()).await;
            let what = format!("{case:?} {when:?}");
            stage.pass(secs(10)).await;
            let idle = stage.pool.idle();
            assert!(idle.iter().all(Option::is_some), "{what}: {idle:?}");
            assert_eq!(idle.len() + stage.pool.empty(), SIZE, "{what}: a place is lost");
            assert!(stage.pool.empty() == 0 || case.is_surplus, "{what}: a place is empty");
            assert_eq!(stage.pool.server().sessions(), idle.len(), "{what}");
            interrupted
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_adoption_may_be_dropped_at_any_moment() {
    for case in Case::all() {
        at_every_moment(async |when| {
            let mut stage = case.stage();
            let next = stage.issue("second");
            let interrupted = dropped(&stage, when, stage.rotation.adopt(&next)).await;
            let what = format!("{case:?} {when:?}");
            stage.pass(secs(10)).await;
            let idle = stage.pool.idle();
            assert!(idle.iter().all(Option::is_some), "{what}: {idle:?}");
            assert_eq!((idle.len(), stage.pool.server().sessions()), (SIZE, SIZE), "{what}");
            // With what is in force, or has been.
            let (newest, in_force) = (idle.iter().flatten().max(), stage.in_force());
            assert!(newest.is_some_and(|newest| *newest <= in_force), "{what}: {idle:?}");
            stage.adopted("third").await;
            assert_eq!(stage.retire().await, 0, "{what}");
            assert_eq!(stage.rotation.retire(&next).await.remaining, Some(0), "{what}");
            assert!(stage.pool.server().most() <= case.most(), "{what}");
            interrupted
        })
        .await;
    }
}

const SIZE: usize = 3;
