//! What the database refuses, and what it must not.

use std::time::Duration;

use leasehold_core::{ErrorKind, EventKind};

use super::{answer, promise, recover};
use crate::conformance::{
    Adapter, Failure,
    database::LockOut,
    stage::{HOUR, PATIENCE, Stage, fill, let_pass, until},
};

/// Credentials that the database refuses change nothing, and are reported.
///
/// # Errors
/// What was not kept.
pub async fn refused_credentials(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", "p").await?, stage.user("new", "p").await?);
    let first = stage.publish(&old, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    let load = stage.load(&pool, 200);
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
                Some(generation) if generation != second => {
                    Err(Failure("the wrong generation is rejected".into()))
                }
                rejected => Ok(rejected.is_some()),
            }
        }
    })
    .await?;
    let_pass(Duration::from_millis(500)).await;
    let measured = load.stop().await;
    promise!(measured.failed == 0, "{} failed: {:?}", measured.failed, measured.failures);
    let who = answer(&*pool, stage.who()).await?;
    promise!(who == old, "{who} answers, not {old}");
    promise!(stage.sessions(&old).await? >= 4, "old sessions are gone");
    let third = stage.user("third", "p").await?;
    let next = stage.publish(&third, "p", HOUR);
    stage.adopted(next).await?;
    stage.retired(first).await?;
    pool.close().await;
    Ok(())
}

/// Every character may be in a password, and in what the server makes of it.
///
/// # Errors
/// What was not kept.
pub async fn any_character_in_a_password(adapter: &dyn Adapter) -> Result<(), Failure> {
    let mut stage = Stage::set(adapter).await?;
    let (old, new) = (stage.user("old", ODD).await?, stage.user("new", ODD).await?);
    let first = stage.publish(&old, ODD, HOUR);
    let pool = stage.build(adapter, 2).await?;
    let who = answer(&*pool, stage.who()).await?;
    promise!(who == old, "{who} answers");
    stage.publish(&new, ODD, HOUR);
    stage.retired(first).await?;
    let who = answer(&*pool, stage.who()).await?;
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
    let mut stage = Stage::set(adapter).await?;
    let user = stage.user("dropped", "p").await?;
    let generation = stage.publish(&user, "p", HOUR);
    let pool = stage.build(adapter, 4).await?;
    fill(&pool, 4).await?;
    stage.database().drop_user(&user).await?;
    let within = adapter.abilities().notices_within;
    let load = stage.load(&pool, 20);
    stage.rejected("dropped", generation, within).await?;
    recover(&mut stage, &pool, "next").await?;
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
    let mut stage = Stage::set(adapter).await?;
    for (round, how) in [LockOut::Login, LockOut::Password].into_iter().enumerate() {
        let user = stage.user(&format!("locked-out-{round}"), "p").await?;
        let generation = stage.publish(&user, "p", HOUR);
        let pool = stage.build(adapter, 4).await?;
        fill(&pool, 4).await?;
        stage.database().lock_out(&user, how).await?;
        let load = stage.load(&pool, 20);
        stage.rejected(&format!("{how:?}"), generation, adapter.abilities().notices_within).await?;
        recover(&mut stage, &pool, &format!("let-in-{round}")).await?;
        load.stop().await;
        pool.close().await;
    }
    Ok(())
}

const ODD: &str = "@:/%#?'\" \\";
