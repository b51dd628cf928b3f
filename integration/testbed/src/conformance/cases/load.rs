//! Rotations that callers must not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{SIZE, Watcher, answer, promise};
use crate::{
    conformance::{
        Abilities, Adapter, Failure, Pool, Target,
        stage::{HOUR, PATIENCE, Stage, fill, let_pass, until},
    },
    link::Link,
};

/// Three rotations under load: no query fails, the server never sees more sessions than the pool's maximum and what the
/// adapter says to need beside it, and afterwards no session of an old user is left.
///
/// # Errors
/// What was not kept.
pub async fn hand_over(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let mut users = Vec::new();
    for number in 0..4 {
        users.push(stage.user(&format!("hand-over-{number}"), "p").await?);
    }
    let mut generation = stage.publish(&users[0], "p", HOUR);
    let pool = stage.build(adapter, SIZE).await?;
    fill(&pool, SIZE).await?;
    let load = stage.load(&pool, 400);
    let watcher = Watcher::start(stage.database().clone());
    let_pass(Duration::from_millis(300)).await;
    for user in &users[1..] {
        let before = generation;
        generation = stage.publish(user, "p", HOUR);
        stage.adopted(generation).await?;
        let remaining = stage.retired(before).await?;
        let counts = adapter.abilities().counts;
        promise!(remaining == Some(0) || !counts, "{remaining:?} left after retirement");
        until("nobody holds the old credentials any more", Duration::from_secs(2), || {
            let gone = stage.farewell(before);
            async move { Ok(gone) }
        })
        .await?;
    }
    let_pass(Duration::from_millis(300)).await;
    let measured = load.stop().await;
    promise!(
        measured.failed == 0,
        "{} of {} failed: {:?}",
        measured.failed,
        measured.queries,
        measured.failures
    );
    promise!(measured.queries > 100, "{} queries", measured.queries);
    for old in &users[..3] {
        let left = stage.sessions(old).await?;
        promise!(left == 0, "{left} sessions of {old} are left");
    }
    let (least, most) = watcher.stop();
    let Abilities { spare_sessions, short, .. } = adapter.abilities();
    let allowed = SIZE - short..=SIZE + spare_sessions;
    promise!(
        allowed.contains(&least) && allowed.contains(&most),
        "{least} to {most} sessions, not {allowed:?}"
    );
    let who = answer(&*pool, stage.who()).await?;
    promise!(who == users[3], "{who} answers, not {}", users[3]);
    pool.close().await;
    Ok(())
}

/// A handshake takes most of a second, and no caller waits that long: the rotation opens connections, and nobody else.
///
/// # Errors
/// What was not kept.
pub async fn handshakes_on_nobodys_path(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let (link, target) = link(&stage).await?;
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build_at(adapter, &target, 3).await?;
    fill(&pool, 3).await?;
    link.delay_handshakes(HANDSHAKE);
    let load = stage.load(&pool, 50);
    stage.publish(&new, "p", HOUR);
    stage.retired(first).await?;
    let measured = load.stop().await;
    promise!(measured.failed == 0, "{} failed: {:?}", measured.failed, measured.failures);
    promise!(link.delayed_handshakes() > 0, "no handshake was delayed");
    promise!(measured.max < HANDSHAKE, "a caller waited for {:?}", measured.max);
    let who = answer(&*pool, stage.who()).await?;
    promise!(who == new, "{who} answers");
    pool.close().await;
    Ok(())
}

/// More callers than connections: the old ones are retired all the same, and nobody is refused.
///
/// # Errors
/// What was not kept.
pub async fn saturated(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let (read, failures) = (stage.read(), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..12 {
        let (pool, failures) = (Arc::clone(&pool), Arc::clone(&failures));
        callers.spawn(async move {
            loop {
                if let Err(_failure) = answer(&*pool, read).await {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let_pass(Duration::from_millis(300)).await;
    stage.publish(&new, "p", HOUR);
    stage.retired(first).await?;
    callers.shutdown().await;
    let failures = failures.load(Ordering::Relaxed);
    promise!(failures == 0, "{failures} queries failed");
    stage.has_left(&old).await?;
    pool.close().await;
    Ok(())
}

/// Callers who give up while they wait for a connection, all through a rotation, cost the pool nothing.
///
/// # Errors
/// What was not kept.
pub async fn cancelled_acquires(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let (read, mut impatient) = (stage.read(), JoinSet::new());
    // Some of them give up before an answer can be there, however far away the server is. None asks again at once: where
    // giving up costs the connection, thousands of handshakes a second were too much for Docker, whose port then refused all.
    let usual = usual(&pool, read).await?;
    for caller in 0..8_u32 {
        let pool = Arc::clone(&pool);
        impatient.spawn(async move {
            loop {
                let patience = usual * (caller + 1) / 2;
                let _ = timeout(patience, answer(&*pool, read)).await;
                let_pass(Duration::from_millis(10)).await;
            }
        });
    }
    let_pass(Duration::from_millis(200)).await;
    stage.publish(&new, "p", HOUR);
    stage.retired(first).await?;
    impatient.shutdown().await;
    // All four places are there, and each has the new user.
    let mut held = Vec::new();
    for _ in 0..4 {
        let acquiring = timeout(PATIENCE, pool.acquire()).await;
        let mut connection =
            acquiring.map_err(|_| Failure("a place was lost".to_owned()))?.map_err(Failure)?;
        let who = connection.query(stage.who()).await.map_err(Failure)?;
        promise!(who == new, "{who} answers after retirement");
        held.push(connection);
    }
    drop(held);
    pool.close().await;
    Ok(())
}

/// How long a query takes.
async fn usual(pool: &Arc<dyn Pool>, read: &'static str) -> Result<Duration, Failure> {
    let mut took = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        answer(&**pool, read).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took[took.len() / 2])
}

/// A handshake that began before the switch and is done after it succeeds, and does not slip in looking new.
///
/// # Errors
/// What was not kept.
pub async fn straddling_handshake(adapter: &dyn Adapter) -> Result<(), Failure> {
    if adapter.abilities().opens_all_at_once {
        return Ok(());
    }
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let (link, target) = link(&stage).await?;
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build_at(adapter, &target, 4).await?;
    let held = pool.acquire().await.map_err(Failure)?;
    link.hold_handshakes();
    let late = tokio::spawn({
        let (pool, who) = (Arc::clone(&pool), stage.who());
        async move { pool.acquire().await?.query(who).await }
    });
    let_pass(Duration::from_millis(300)).await;
    promise!(!late.is_finished(), "nothing was held back");
    link.hold_no_more();
    let second = stage.publish(&new, "p", HOUR);
    stage.adopted(second).await?;
    promise!(!late.is_finished(), "it was let go before the switch");
    link.release();
    let who = late.await.map_err(|error| Failure(error.to_string()))?.map_err(Failure)?;
    promise!(who == old || who == new, "{who} answers");
    drop(held);
    stage.retired(first).await?;
    until("no old session is left", PATIENCE, || async { Ok(stage.sessions(&old).await? == 0) }).await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = pool.acquire().await.map_err(Failure)?;
        let who = connection.query(stage.who()).await.map_err(Failure)?;
        promise!(who == new, "{who} answers after retirement");
        held.push(connection);
    }
    drop(held);
    pool.close().await;
    Ok(())
}

/// A way to the server on which handshakes can be held back, and where it begins.
async fn link(stage: &Stage) -> Result<(Link, Target), Failure> {
    let server = stage.database().target()?;
    let link = Link::to(&server.host, server.port).await?;
    let target = Target { host: link.host().to_owned(), port: link.port(), database: server.database };
    Ok((link, target))
}

const HANDSHAKE: Duration = Duration::from_millis(700);
