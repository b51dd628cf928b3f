//! Connections that are borrowed when their credentials are superseded.

use std::time::Duration;

use leasehold_core::EventKind;

use super::{answer, promise};
use crate::conformance::{
    Adapter, Failure,
    stage::{HOUR, PATIENCE, Stage, fill, let_pass, until},
};

/// A connection that is borrowed at the switch goes on working, is counted, and is retired when it comes back; or
/// [logs in again](super::super::Abilities::logs_in_again).
///
/// # Errors
/// What was not kept.
pub async fn borrowed_across_the_switch(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let mut borrowed = pool.acquire().await.map_err(Failure)?;
    let second = stage.publish(&new, "p", HOUR);
    stage.adopted(second).await?;
    if adapter.abilities().logs_in_again {
        stage.retired(first).await?;
        let who = borrowed.query(stage.who()).await.map_err(Failure)?;
        promise!(who == new, "{who} answers on the borrowed connection, not {new}");
        stage.has_left(&old).await?;
        drop(borrowed);
        pool.close().await;
        return Ok(());
    }
    let left = 1 + adapter.abilities().counting_sessions;
    until("only the borrowed one is left", PATIENCE, || async { Ok(stage.sessions(&old).await? == left) })
        .await?;
    let_pass(Duration::from_millis(300)).await;
    let who = borrowed.query(stage.who()).await.map_err(Failure)?;
    promise!(who == old, "{who} answers on the borrowed connection, not {old}");
    promise!(!stage.farewell(first), "its credentials are let go, and would be revoked");
    if adapter.abilities().counts {
        let health = stage.channel().current.health();
        promise!(health.connections.contains(&(first, 1)), "it is not counted: {health:?}");
    }
    drop(borrowed);
    stage.retired(first).await?;
    stage.has_left(&old).await?;
    pool.close().await;
    Ok(())
}

/// A connection that never comes back is counted and reported. At its end it is left, or ended by the server where the
/// adapter says so; and once returned it is not handed out again. One that logs in again needs no end.
///
/// # Errors
/// What was not kept.
pub async fn never_returned(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", Duration::from_secs(4));
    let pool = stage.build(adapter, 2).await?;
    fill(&pool, 2).await?;
    let mut borrowed = pool.acquire().await.map_err(Failure)?;
    let second = stage.publish(&new, "p", HOUR);
    stage.adopted(second).await?;
    let remaining = stage.retired(first).await?;
    if adapter.abilities().logs_in_again {
        promise!(remaining == Some(0), "{remaining:?} reported");
        let who = borrowed.query(stage.who()).await.map_err(Failure)?;
        promise!(who == new, "{who} answers on the borrowed connection");
    } else if adapter.abilities().terminates {
        stage
            .event("terminated", first, |kind| matches!(kind, EventKind::Terminated { .. }).then_some(()))
            .await?;
        promise!(borrowed.query(stage.who()).await.is_err(), "it was to be ended");
    } else {
        promise!(remaining != Some(0), "{remaining:?} reported, and one is borrowed");
        let who = borrowed.query(stage.who()).await.map_err(Failure)?;
        promise!(who == old, "it was to be left");
    }
    drop(borrowed);
    for _ in 0..8 {
        let who = answer(&*pool, stage.who()).await?;
        promise!(who == new, "{who} was handed out past its end");
    }
    until("the old session is gone", PATIENCE, || async { Ok(stage.sessions(&old).await? == 0) }).await?;
    pool.close().await;
    Ok(())
}
