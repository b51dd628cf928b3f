//! The cases: each says what is promised, and fails with what was not kept.

mod borrowed;
mod ends;
mod load;
mod refusals;
mod room;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Failure, Pool,
    database::Database,
    stage::{HOUR, PATIENCE, Stage, let_pass, until},
};

pub use borrowed::{borrowed_across_the_switch, never_returned};
pub use ends::{closed_during_rotation, nothing_secret_is_printed, restarted_during_rotation};
pub use load::{cancelled_acquires, hand_over, handshakes_on_nobodys_path, saturated, straddling_handshake};
pub use refusals::{
    any_character_in_a_password, dropped_behind_its_back, refused_credentials, refused_handshakes,
};
pub use room::{a_limit_of_the_users_own, no_room_for_another};

macro_rules! promise {
    ($kept:expr, $($broken:tt)+) => {
        if !$kept {
            return Err(Failure(format!($($broken)+)));
        }
    };
}

use promise;

/// The keeper does its part, and then every connection answers.
async fn recover(stage: &mut Stage, pool: &Arc<dyn Pool>, next: &str) -> Result<(), Failure> {
    let next = stage.user(next, "p").await?;
    let successor = stage.publish(&next, "p", HOUR);
    stage.adopted(successor).await?;
    every_connection_answers(pool, stage.read()).await
}

/// Waits until eight queries in a row succeed.
pub(super) async fn every_connection_answers(
    pool: &Arc<dyn Pool>,
    read: &'static str,
) -> Result<(), Failure> {
    until("queries succeed again", PATIENCE, || async {
        for _ in 0..8 {
            if answer(&**pool, read).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
    .map(drop)
}

pub(super) async fn answer(pool: &dyn Pool, statement: &'static str) -> Result<String, Failure> {
    pool.acquire().await.map_err(Failure)?.query(statement).await.map_err(Failure)
}

/// Watches how many sessions there are: as many as two looks in a row agree on, since the server lists one that was closed
/// for a moment longer.
pub(super) struct Watcher {
    least: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    pub(super) fn start(database: Database) -> Self {
        let (least, most) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let (seen_least, seen) = (Arc::clone(&least), Arc::clone(&most));
        let task = tokio::spawn(async move {
            let mut before = None;
            loop {
                if let Ok(now) = database.sessions().await {
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
