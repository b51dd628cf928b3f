//! Pools with `test_on_check_out(false)`: r2d2 tells their manager nothing when it hands a connection out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{HOUR, Load, PgPool, SECOND, Server, blocking, nap, user_of};
use diesel::r2d2::{HandleEvent, event::CheckinEvent};
use leasehold_diesel::Settings;
use leasehold_testbed::conformance::Keeper;

/// Counts what is given back.
#[derive(Clone, Debug, Default)]
struct Returns(Arc<AtomicUsize>);

impl Returns {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl HandleEvent for Returns {
    fn handle_checkin(&self, _: CheckinEvent) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

async fn unchecked(server: &Server, keeper: &Keeper, returns: &Returns) -> PgPool {
    let returns = returns.clone();
    let settings = Settings { ask_every: None, ..Settings::default() };
    let builder = server
        .postgres()
        .settings(settings)
        .pool(move |pool| pool.max_size(4).test_on_check_out(false).event_handler(Box::new(returns)));
    builder.connect(keeper.current()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rotation_leaves_a_pool_alone_whose_last_old_connection_is_borrowed() {
    let server = Server::shared().await;
    let (old, new) = (server.role("left", "p").await, server.role("left", "p").await);
    let (mut keeper, returns) = (Keeper::with(&old, "p"), Returns::default());
    let pool = unchecked(&server, &keeper, &returns).await;
    let first = keeper.channel.current.get().unwrap().generation();
    let lending = pool.clone();
    let mut borrowed = blocking(move || {
        let mut borrowed = lending.get().unwrap();
        // It is used, as whatever is borrowed for long.
        user_of(&mut borrowed);
        borrowed
    })
    .await;
    keeper.publish(&new, "p", HOUR);
    server.wait_for_sessions(&old, 1).await;
    nap(300).await;
    let before = returns.count();
    nap(2000).await;
    let looked = returns.count() - before;
    assert_eq!(looked, 0, "it was taken for idle, and everything else was taken out to get at it");
    let user = blocking(move || user_of(&mut borrowed)).await;
    assert_eq!(user, old);
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    server.wait_for_sessions(&new, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_rotates_under_load() {
    let server = Server::shared().await;
    let (old, new) = (server.role("unchecked", "p").await, server.role("unchecked", "p").await);
    for callers in [2, 12] {
        let (mut keeper, returns) = (Keeper::with(&old, "p"), Returns::default());
        let pool = unchecked(&server, &keeper, &returns).await;
        let first = keeper.channel.current.get().unwrap().generation();
        let pace = if callers > 4 { Duration::ZERO } else { Duration::from_millis(5) };
        let load = Load::start(&pool, callers, pace);
        nap(300).await;
        keeper.publish(&new, "p", HOUR);
        assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
        let calls = blocking(move || load.stop()).await;
        calls.print("unchecked");
        assert_eq!(calls.failures, [""; 0]);
        assert_eq!(pool.state().connections, 4);
        server.wait_for_sessions(&old, 0).await;
        keeper.channel.publisher.close();
        drop(pool);
        server.wait_for_sessions(&new, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_not_handed_out_even_if_it_could_not_be_exchanged() {
    let server = Server::shared().await;
    let (old, new) = (server.role("ended", "p").await, server.role("ended", "p").await);
    let (mut keeper, returns) = (Keeper::new(), Returns::default());
    let first = keeper.publish(&old, "p", 3 * SECOND);
    let pool = unchecked(&server, &keeper, &returns).await;
    let second = keeper.publish(&new, "p", HOUR);
    keeper.adopted(second).await.unwrap();
    // As if the database refused every exchange from now on.
    server.run(&format!("ALTER ROLE \"{new}\" NOLOGIN")).await;
    keeper.retired(first).await.unwrap();
    server.wait_for_sessions(&old, 0).await;
    server.run(&format!("ALTER ROLE \"{new}\" LOGIN")).await;
    let users = blocking(move || {
        let mut lent: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
        lent.iter_mut().map(|lent| user_of(lent)).collect::<Vec<_>>()
    });
    assert_eq!(users.await, [new.as_str(); 4]);
}
