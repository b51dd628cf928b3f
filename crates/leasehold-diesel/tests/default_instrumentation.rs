//! diesel's default instrumentation is one for the process, so this has one to itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use std::sync::Mutex;

use common::{Server, user_of_next};
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use leasehold_testbed::conformance::Keeper;

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| SEEN.lock().unwrap().push(format!("{event:?}"))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_instrumentation_sees_every_query_and_the_url_of_every_connection() {
    let server = Server::shared().await;
    let user = server.role("default", "hunter2").await;
    set_default_instrumentation(watch).unwrap();
    let keeper = Keeper::with(&user, "hunter2");
    let pool = server.postgres().pool(|pool| pool.max_size(1)).connect(keeper.current()).await.unwrap();
    assert_eq!(user_of_next(&pool).await, user);
    let seen = SEEN.lock().unwrap().clone();
    let has = |event: &str, what: &str| seen.iter().any(|seen| seen.contains(event) && seen.contains(what));
    assert!(has("StartQuery", "session_user"), "{seen:?}");
    // If this fails, diesel has mended what the README warns of.
    assert!(has("StartEstablishConnection", "hunter2"), "{seen:?}");
    assert!(!has("Query", "hunter2"), "{seen:?}");
}
