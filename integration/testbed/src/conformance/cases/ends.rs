//! Ends: of the database, of the pool; and what can be printed meanwhile.

use std::time::Duration;

use leasehold_core::EventKind;
use tokio::time::timeout;

use super::{SIZE, answer, promise};
use crate::conformance::{
    Adapter, Failure,
    stage::{HOUR, PATIENCE, Stage, fill, let_pass, until},
};

/// The database is restarted while a rotation is under way: afterwards every connection is the new user's.
///
/// # Errors
/// What was not kept.
pub async fn restarted_during_rotation(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, SIZE).await?;
    fill(&pool, SIZE).await?;
    let second = stage.publish(&new, "p", HOUR);
    stage.database().restart(Duration::from_secs(1), &[&old, &new]).await?;
    stage.adopted(second).await?;
    stage.retired(first).await?;
    until("the new user answers", PATIENCE, || async {
        Ok(answer(&*pool, stage.who()).await.is_ok_and(|who| who == new))
    })
    .await?;
    let rejected = stage.count(|kind| matches!(kind, EventKind::Rejected { .. }));
    promise!(rejected == 0 && stage.channel().rejections.try_recv().is_none(), "a restart refutes nothing");
    pool.close().await;
    Ok(())
}

/// Nothing that can be printed tells a password.
///
/// # Errors
/// What was not kept.
pub async fn nothing_secret_is_printed(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let user = stage.user("printed", "hunter2-hunter2").await?;
    stage.publish(&user, "hunter2-hunter2", HOUR);
    let pool = stage.build(adapter, 2).await?;
    fill(&pool, 2).await?;
    for text in [pool.debug(), format!("{:?}", stage.channel().current)] {
        promise!(!text.contains("hunter2"), "the password is printed: {text}");
    }
    pool.close().await;
    stage.publish("v-nobody", "hunter2-hunter2", HOUR);
    match adapter.build(&stage.database().target()?, 2, stage.channel().current.clone()).await {
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
    let mut stage = Stage::set(adapter).await?;
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
