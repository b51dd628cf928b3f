//! The cases: each says what is promised, and fails with what was not kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leasehold_core::{ErrorKind, EventKind};
use tokio::{task::JoinSet, time::timeout};

use super::{
    Abilities, Adapter, Failure, Pool,
    proxy::Proxy,
    stage::{HOUR, PATIENCE, READ, Stage, WHO, fill, let_pass, load, until},
};
use crate::Testbed;

macro_rules! promise {
    ($kept:expr, $($broken:tt)+) => {
        if !$kept {
            return Err(Failure(format!($($broken)+)));
        }
    };
}

/// Three rotations under load: no query fails, the server never sees more sessions than the pool's maximum and what the
/// adapter says to need beside it, and afterwards no session of an old user is left.
///
/// # Errors
/// What was not kept.
pub async fn hand_over(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let mut users = Vec::new();
    for number in 0..4 {
        users.push(stage.user(&format!("hand-over-{number}"), "p").await?);
    }
    let mut generation = stage.publish(&users[0], "p", HOUR);
    let pool = stage.build(adapter, SIZE).await?;
    fill(&pool, SIZE).await?;
    let load = load(&pool, 400);
    let watcher = Watcher::start(stage.testbed());
    let_pass(Duration::from_millis(300)).await;
    for user in &users[1..] {
        let before = generation;
        generation = stage.publish(user, "p", HOUR);
        stage.adopted(generation).await?;
        let remaining = stage.retired(before).await?;
        promise!(remaining.unwrap_or_default() == 0, "{remaining:?} left after retirement");
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
    let who = answer(&*pool, WHO).await?;
    promise!(who == users[3], "{who} answers, not {}", users[3]);
    pool.close().await;
    Ok(())
}

/// More callers than connections: the old ones are retired all the same, and nobody is refused.
///
/// # Errors
/// What was not kept.
pub async fn saturated(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let (mut callers, failures) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for _ in 0..12 {
        let (pool, failures) = (Arc::clone(&pool), Arc::clone(&failures));
        callers.spawn(async move {
            loop {
                if let Err(_failure) = answer(&*pool, READ).await {
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
    let left = stage.sessions(&old).await?;
    promise!(left == 0, "{left} old sessions are left");
    pool.close().await;
    Ok(())
}

/// A connection that is borrowed at the switch goes on working, is counted, and is retired when it comes back.
///
/// # Errors
/// What was not kept.
pub async fn borrowed_across_the_switch(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let mut borrowed = pool.acquire().await.map_err(Failure)?;
    let second = stage.publish(&new, "p", HOUR);
    stage.adopted(second).await?;
    until("only the borrowed one is left", PATIENCE, || async { Ok(stage.sessions(&old).await? == 1) })
        .await?;
    let_pass(Duration::from_millis(300)).await;
    let who = borrowed.query(WHO).await.map_err(Failure)?;
    promise!(who == old, "{who} answers on the borrowed connection, not {old}");
    promise!(!stage.farewell(first), "its credentials are let go, and would be revoked");
    if adapter.abilities().counts {
        let health = stage.channel().current.health();
        promise!(health.connections.contains(&(first, 1)), "it is not counted: {health:?}");
    }
    drop(borrowed);
    stage.retired(first).await?;
    let left = stage.sessions(&old).await?;
    promise!(left == 0, "{left} old sessions are left");
    pool.close().await;
    Ok(())
}

/// A connection that never comes back is counted and reported. At its end it is left, or ended by the server where the
/// adapter says so; and once returned it is not handed out again.
///
/// # Errors
/// What was not kept.
pub async fn never_returned(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", Duration::from_secs(4));
    let pool = stage.build(adapter, 2).await?;
    fill(&pool, 2).await?;
    let mut borrowed = pool.acquire().await.map_err(Failure)?;
    let second = stage.publish(&new, "p", HOUR);
    stage.adopted(second).await?;
    let remaining = stage.retired(first).await?;
    if adapter.abilities().terminates {
        stage
            .event("terminated", first, |kind| matches!(kind, EventKind::Terminated { .. }).then_some(()))
            .await?;
        promise!(borrowed.query(WHO).await.is_err(), "it was to be ended");
    } else {
        promise!(remaining != Some(0), "{remaining:?} reported, and one is borrowed");
        let who = borrowed.query(WHO).await.map_err(Failure)?;
        promise!(who == old, "it was to be left");
    }
    drop(borrowed);
    for _ in 0..8 {
        let who = answer(&*pool, WHO).await?;
        promise!(who == new, "{who} was handed out past its end");
    }
    until("the old session is gone", PATIENCE, || async { Ok(stage.sessions(&old).await? == 0) }).await?;
    pool.close().await;
    Ok(())
}

/// Callers who give up while they wait for a connection, all through a rotation, cost the pool nothing.
///
/// # Errors
/// What was not kept.
pub async fn cancelled_acquires(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let mut impatient = JoinSet::new();
    for caller in 0..8_u64 {
        let pool = Arc::clone(&pool);
        impatient.spawn(async move {
            loop {
                let patience = Duration::from_micros(150 * (caller + 1));
                let _ = timeout(patience, answer(&*pool, READ)).await;
                tokio::task::yield_now().await;
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
        let who = connection.query(WHO).await.map_err(Failure)?;
        promise!(who == new, "{who} answers after retirement");
        held.push(connection);
    }
    drop(held);
    pool.close().await;
    Ok(())
}

/// Credentials that the database refuses change nothing, and are reported.
///
/// # Errors
/// What was not kept.
pub async fn refused_credentials(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let load = load(&pool, 200);
    let second = stage.publish(&new, "wrong", HOUR);
    let refused = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = stage.event("refused", second, refused).await?;
    promise!(error.kind() == ErrorKind::CredentialsRefused, "reported as {}: {error}", error.kind());
    promise!(!format!("{error} {error:?}").contains("wrong"), "the password is in {error:?}");
    until("it is rejected", PATIENCE, || {
        let rejected = stage.channel().rejections.try_recv().map(|rejection| rejection.generation);
        async move {
            match rejected {
                Ok(generation) if generation != second => {
                    Err(Failure("the wrong generation is rejected".into()))
                }
                rejected => Ok(rejected.is_ok()),
            }
        }
    })
    .await?;
    let_pass(Duration::from_millis(500)).await;
    let measured = load.stop().await;
    promise!(measured.failed == 0, "{} failed: {:?}", measured.failed, measured.failures);
    let who = answer(&*pool, WHO).await?;
    promise!(who == old, "{who} answers, not {old}");
    promise!(stage.sessions(&old).await? >= 4, "old sessions are gone");
    let third = stage.user("third", "p").await?;
    let next = stage.publish(&third, "p", HOUR);
    stage.adopted(next).await?;
    stage.retired(first).await?;
    pool.close().await;
    Ok(())
}

/// The database is restarted while a rotation is under way: afterwards every connection is the new user's.
///
/// # Errors
/// What was not kept.
pub async fn restarted_during_rotation(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, SIZE).await?;
    fill(&pool, SIZE).await?;
    let second = stage.publish(&new, "p", HOUR);
    stage.postgres().stop().await?;
    let_pass(Duration::from_secs(1)).await;
    stage.postgres().start_again().await?;
    stage.adopted(second).await?;
    stage.retired(first).await?;
    until("the new user answers", PATIENCE, || async {
        Ok(answer(&*pool, WHO).await.is_ok_and(|who| who == new))
    })
    .await?;
    let rejected = stage.count(|kind| matches!(kind, EventKind::Rejected { .. }));
    promise!(rejected == 0 && stage.channel().rejections.try_recv().is_err(), "a restart refutes nothing");
    pool.close().await;
    Ok(())
}

/// Where the user may have no more sessions than the pool has connections, a rotation to the same role's next user
/// succeeds; where the server has no room, it waits until a connection is idle, and says so.
///
/// # Errors
/// What was not kept.
pub async fn no_room_for_another(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 3).await?;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(pool.acquire().await.map_err(Failure)?);
    }
    // Superusers have no limit, but count; the one who asks has gone by then.
    let open = number(
        &stage.testbed(),
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await?;
    let limit = open - usize::from(adapter.abilities().canary);
    let limit = format!("ALTER DATABASE \"{}\" CONNECTION LIMIT {limit}", stage.target().database);
    stage.postgres().execute(&limit).await?;
    let second = stage.publish(&new, "p", HOUR);
    let waits = |kind: &EventKind| match kind {
        EventKind::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    let error = stage.event("it says that it waits", second, waits).await?;
    promise!(
        error.kind().is_retryable() && error.message().contains("idle"),
        "it does not say what it waits for: {error}"
    );
    drop(held.pop());
    stage.adopted(second).await?;
    drop(held);
    stage.retired(first).await?;
    let left = stage.sessions(&old).await?;
    promise!(left == 0, "{left} old sessions are left");
    let who = answer(&*pool, WHO).await?;
    promise!(who == new, "{who} answers");
    pool.close().await;
    Ok(())
}

/// Every character may be in a password, and in what the server makes of it.
///
/// # Errors
/// What was not kept.
pub async fn any_character_in_a_password(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", ODD).await?, stage.user("new", ODD).await?);
    let first = stage.publish(&old, ODD, HOUR);
    let pool = stage.build(adapter, 2).await?;
    let who = answer(&*pool, WHO).await?;
    promise!(who == old, "{who} answers");
    stage.publish(&new, ODD, HOUR);
    stage.retired(first).await?;
    let who = answer(&*pool, WHO).await?;
    promise!(who == new, "{who} answers");
    for shown in [ODD.to_owned(), format!("{ODD:?}").trim_matches('"').to_owned()] {
        promise!(!pool.debug().contains(&shown), "the password is printed: {}", pool.debug());
    }
    pool.close().await;
    Ok(())
}

/// A user that an operator drops is noticed as early as the adapter says.
///
/// # Errors
/// What was not kept.
pub async fn dropped_behind_its_back(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let user = stage.user("dropped", "p").await?;
    let generation = stage.publish(&user, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    stage.postgres().execute(&format!("DROP OWNED BY \"{user}\"; DROP ROLE \"{user}\"")).await?;
    let within = adapter.abilities().notices_within;
    let load = load(&pool, 20);
    until("the keeper is told", within, || {
        let told =
            stage.channel().rejections.try_recv().is_ok_and(|rejection| rejection.generation == generation);
        async move { Ok(told) }
    })
    .await?;
    let next = stage.user("next", "p").await?;
    let second = stage.publish(&next, "p", HOUR);
    stage.adopted(second).await?;
    until("queries succeed again", PATIENCE, || async {
        for _ in 0..8 {
            if answer(&*pool, READ).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    load.stop().await;
    pool.close().await;
    Ok(())
}

/// A user who may log in no more, or not with this password, keeps its open sessions, and nothing they ask shows it. The
/// first handshake does.
///
/// # Errors
/// What was not kept.
pub async fn refused_handshakes(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    for (round, revocation) in ["NOLOGIN", "PASSWORD 'another'"].into_iter().enumerate() {
        let user = stage.user(&format!("locked-out-{round}"), "p").await?;
        let generation = stage.publish(&user, "p", HOUR);
        let pool = stage.build(adapter, 4).await?;
        fill(&pool, 4).await?;
        let end = format!(
            "ALTER ROLE \"{user}\" {revocation}; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"
        );
        stage.postgres().execute(&end).await?;
        let load = load(&pool, 20);
        until(&format!("{revocation}: the keeper is told"), adapter.abilities().notices_within, || {
            let mut told = false;
            while let Ok(rejection) = stage.channel().rejections.try_recv() {
                told |= rejection.generation == generation;
            }
            async move { Ok(told) }
        })
        .await?;
        let next = stage.user(&format!("let-in-{round}"), "p").await?;
        let second = stage.publish(&next, "p", HOUR);
        stage.adopted(second).await?;
        until("queries succeed again", PATIENCE, || async {
            for _ in 0..8 {
                if answer(&*pool, READ).await.is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        load.stop().await;
        pool.close().await;
    }
    Ok(())
}

/// A handshake that began before the switch and is done after it succeeds, and does not slip in looking new.
///
/// # Errors
/// What was not kept.
pub async fn straddling_handshake(adapter: &dyn Adapter) -> Result<(), Failure> {
    if adapter.abilities().opens_all_at_once {
        return Ok(());
    }
    let mut stage = Stage::set().await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let proxy = Proxy::to(&stage.target()).await?;
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build_at(adapter, proxy.target(), 4).await?;
    let held = pool.acquire().await.map_err(Failure)?;
    proxy.hold();
    let late = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire().await?.query(WHO).await }
    });
    let_pass(Duration::from_millis(300)).await;
    promise!(!late.is_finished(), "nothing was held back");
    let second = stage.publish(&new, "p", HOUR);
    let_pass(Duration::from_millis(300)).await;
    proxy.release();
    stage.adopted(second).await?;
    let who = late.await.map_err(|error| Failure(error.to_string()))?.map_err(Failure)?;
    promise!(who == old || who == new, "{who} answers");
    drop(held);
    stage.retired(first).await?;
    until("no old session is left", PATIENCE, || async { Ok(stage.sessions(&old).await? == 0) }).await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = pool.acquire().await.map_err(Failure)?;
        let who = connection.query(WHO).await.map_err(Failure)?;
        promise!(who == new, "{who} answers after retirement");
        held.push(connection);
    }
    drop(held);
    pool.close().await;
    Ok(())
}

/// Nothing that can be printed tells a password.
///
/// # Errors
/// What was not kept.
pub async fn nothing_secret_is_printed(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let user = stage.user("printed", "hunter2-hunter2").await?;
    stage.publish(&user, "hunter2-hunter2", HOUR);
    let pool = stage.build(adapter, 2).await?;
    fill(&pool, 2).await?;
    for text in [pool.debug(), format!("{:?}", stage.channel().current)] {
        promise!(!text.contains("hunter2"), "the password is printed: {text}");
    }
    pool.close().await;
    stage.publish("v-nobody", "hunter2-hunter2", HOUR);
    match adapter.build(&stage.target(), 2, stage.channel().current.clone()).await {
        Err(error) => promise!(!error.contains("hunter2"), "the password is in the error: {error}"),
        Ok(pool) => {
            let error = pool.acquire().await.err().unwrap_or_default();
            promise!(!error.is_empty(), "a user who does not exist was let in");
            promise!(!error.contains("hunter2"), "the password is in the error: {error}");
        }
    }
    Ok(())
}

/// A pool may be closed at any moment of a rotation: nothing hangs, and nothing is left on the server.
///
/// # Errors
/// What was not kept.
pub async fn closed_during_rotation(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    for round in 0..6_u32 {
        let old = stage.user(&format!("old-{round}"), "p").await?;
        let new = stage.user(&format!("new-{round}"), "p").await?;
        stage.publish(&old, "p", HOUR);
        let pool = stage.build(adapter, 4).await?;
        fill(&pool, 4).await?;
        stage.publish(&new, "p", HOUR);
        let_pass(Duration::from_millis(u64::from(round) * 12)).await;
        let closed = timeout(PATIENCE, pool.close()).await;
        promise!(closed.is_ok(), "closing hangs in round {round}");
        drop(pool);
        until("no session is left", PATIENCE, || async {
            Ok(stage.sessions(&old).await? + stage.sessions(&new).await? == 0)
        })
        .await?;
    }
    Ok(())
}

async fn answer(pool: &dyn Pool, sql: &'static str) -> Result<String, Failure> {
    pool.acquire().await.map_err(Failure)?.query(sql).await.map_err(Failure)
}

/// Sessions of every user that a case made.
async fn sessions(testbed: &Testbed) -> Result<usize, Failure> {
    number(testbed, "SELECT count(*)::text FROM pg_stat_activity WHERE usename LIKE 'v-%'").await
}

async fn number(testbed: &Testbed, sql: &str) -> Result<usize, Failure> {
    let rows = testbed.postgres().query(sql).await?;
    let count = rows.first().and_then(|row| row.first()).and_then(Option::as_deref).unwrap_or_default();
    count.parse().map_err(|_| Failure(format!("`{count}` is no number")))
}

/// Watches how many sessions there are: as many as two looks in a row agree on, since the server lists one that was closed
/// for a moment longer.
pub(super) struct Watcher {
    least: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    pub(super) fn start(testbed: Arc<Testbed>) -> Self {
        let (least, most) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let (seen_least, seen) = (Arc::clone(&least), Arc::clone(&most));
        let task = tokio::spawn(async move {
            let mut before = None;
            loop {
                if let Ok(now) = sessions(&testbed).await {
                    let last = before.replace(now).unwrap_or(now);
                    seen.fetch_max(now.min(last), Ordering::Relaxed);
                    seen_least.fetch_min(now.max(last), Ordering::Relaxed);
                }
                let_pass(Duration::from_millis(3)).await;
            }
        });
        Self { least, most, task }
    }

    /// The fewest and the most.
    pub(super) fn stop(self) -> (usize, usize) {
        self.task.abort();
        (self.least.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }
}

const SIZE: usize = 8;
const ODD: &str = "@:/%#?'\" \\";
