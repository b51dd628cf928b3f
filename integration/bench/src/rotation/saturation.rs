//! How much the machine can do, so that the paced load is known to be less.

use std::{sync::Arc, time::Duration};

use anyhow::{Error, Result};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    keeper_by_hand::KeeperByHand,
    pools::{Adapter, Tuning, Way},
    server::Server,
};

/// Queries per second that the plain pool answers when as many callers as it has connections ask without a pause.
pub(super) async fn find(adapter: &dyn Adapter, server: &Server, tuning: Tuning) -> Result<f64> {
    let users = server.make_users(1).await?;
    let keeper = KeeperByHand::new(users.clone());
    let pool = adapter.build(Way::Plain, &server.place(), tuning, keeper.current()).await?;
    pool.fill().await?;
    let end = Instant::now() + LENGTH;
    let mut callers = JoinSet::new();
    for _ in 0..tuning.size {
        let pool = Arc::clone(&pool);
        callers.spawn(async move {
            let mut answered = 0_u32;
            while Instant::now() < end {
                pool.query().await?;
                answered += 1;
            }
            Ok::<_, Error>(answered)
        });
    }
    let mut answered = 0;
    while let Some(caller) = callers.join_next().await {
        answered += caller??;
    }
    pool.close().await;
    server.drop_users(&users).await?;
    Ok(f64::from(answered) / LENGTH.as_secs_f64())
}

const LENGTH: Duration = Duration::from_secs(2);
