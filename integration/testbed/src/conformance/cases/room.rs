//! Servers without room for another connection.

use std::time::Duration;

use leasehold_core::EventKind;

use super::{answer, promise};
use crate::conformance::{
    Adapter, Failure, Server,
    stage::{HOUR, Stage, fill, let_pass},
};

/// Where the user may have no more sessions than the pool has connections, a rotation to the same role's next user
/// succeeds; where the server has no room, it waits until a connection is idle, and says so.
///
/// # Errors
/// What was not kept.
pub async fn no_room_for_another(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let size = adapter.server().fewest_that_fill();
    let pool = stage.build(adapter, size).await?;
    let mut held = Vec::new();
    for _ in 0..size {
        held.push(pool.acquire().await.map_err(Failure)?);
    }
    let full = stage.database().fill(usize::from(adapter.abilities().canary)).await?;
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
    full.end().await?;
    stage.has_left(&old).await?;
    let who = answer(&*pool, stage.who()).await?;
    promise!(who == new, "{who} answers");
    pool.close().await;
    Ok(())
}

/// Where each user may have just as many sessions as the pool has connections, no query fails in a rotation, nor after it.
/// Redis knows no such limit.
///
/// # Errors
/// What was not kept.
pub async fn a_limit_of_the_users_own(adapter: &dyn Adapter) -> Result<(), Failure> {
    if adapter.server() == Server::Redis {
        return Ok(());
    }
    let mut stage = Stage::set(adapter).await?;
    for user in ["v-old", "v-new"] {
        stage.database().create(user, "p", Some(LIMIT)).await?;
    }
    let first = stage.publish("v-old", "p", HOUR);
    let pool = stage.build(adapter, LIMIT).await?;
    fill(&pool, LIMIT).await?;
    let load = stage.load(&pool, 200);
    let_pass(Duration::from_millis(200)).await;
    stage.publish("v-new", "p", HOUR);
    stage.retired(first).await?;
    // All at once: none is missing, and none is somebody else's.
    let mut held = Vec::new();
    for _ in 0..LIMIT {
        let mut connection = pool.acquire().await.map_err(Failure)?;
        let who = connection.query(stage.who()).await.map_err(Failure)?;
        promise!(who == "v-new", "{who} answers after retirement");
        held.push(connection);
    }
    drop(held);
    let measured = load.stop().await;
    promise!(measured.failed == 0, "{} failed: {:?}", measured.failed, measured.failures);
    pool.close().await;
    Ok(())
}

const LIMIT: usize = 3;
