//! The same with diesel-async's connections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of tests are tests")]

mod common;

use common::{Admin, HOUR, SECOND, nap};
use diesel::{dsl::sql, sql_types::Text};
use diesel_async::RunQueryDsl;
use leasehold_bb8::{
    Manager, Settings, build,
    diesel_async::{Connector, Pool},
};
use leasehold_core::{ErrorKind, EventKind};
use leasehold_testbed::{conformance::Keeper, load::Load};
use tokio::time::timeout;
use tokio_postgres::NoTls;

async fn pool(admin: &Admin, keeper: &Keeper, settings: Settings) -> leasehold_core::Result<Pool> {
    let manager = Manager::new(Connector::new(admin.config(), NoTls), keeper.current())?;
    build(bb8::Pool::builder().max_size(4), manager, settings).await
}

async fn user_of_next(pool: &Pool) -> Result<String, String> {
    let mut connection = pool.get().await.map_err(|error| error.to_string())?;
    let user = diesel::select(sql::<Text>("session_user::text"));
    user.get_result(&mut connection).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_change_under_load() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("diesel", "p").await, admin.role("diesel", "p").await);
    let mut keeper = Keeper::with(&old, "p");
    let pool = pool(&admin, &keeper, Settings::default()).await.unwrap();
    let watch = admin.watch(&[old.clone(), new.clone()]);
    let load = Load::start(200, {
        let pool = pool.clone();
        move || {
            let pool = pool.clone();
            async move { user_of_next(&pool).await.map(drop) }
        }
    });
    nap(300).await;
    let (first, _) = (keeper.generation(), keeper.publish(&new, "p", HOUR));
    assert_eq!(keeper.retired(first).await.unwrap(), Some(0));
    admin.wait_for_sessions(&old, 0, SECOND / 2).await;
    assert_eq!(user_of_next(&pool).await.unwrap(), new);
    let (outcome, most) = (load.stop().await, watch.most());
    assert_eq!((outcome.failed, most <= 5), (0, true), "{most} sessions, {:?}", outcome.failures);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_user_is_noticed_and_wrong_passwords_are_told() {
    let admin = Admin::new().await;
    let user = admin.role("gone", "p").await;
    let wrong = pool(&admin, &Keeper::with(&user, "wrong"), Settings::default()).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::CredentialsRefused, "{wrong}");
    let mut keeper = Keeper::with(&user, "p");
    let pool = pool(&admin, &keeper, Settings::default()).await.unwrap();
    nap(3000).await;
    assert!(keeper.channel.rejections.try_recv().is_none(), "it is still there");
    admin.run(&format!("DROP ROLE \"{user}\"")).await;
    let rejection = timeout(5 * SECOND, keeper.channel.rejections.recv()).await.expect("it was not noticed");
    assert_eq!(rejection.cause, ErrorKind::CredentialsRefused);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_still_borrowed_is_terminated_if_so_desired() {
    let admin = Admin::new().await;
    let (old, new) = (admin.role("kept", "p").await, admin.role("kept", "p").await);
    let mut keeper = Keeper::new();
    let first = keeper.publish(&old, "p", 3 * SECOND);
    let settings = Settings { terminate: true, ..Settings::default() };
    let pool = pool(&admin, &keeper, settings).await.unwrap();
    let mut borrowed = pool.get().await.unwrap();
    keeper.publish(&new, "p", HOUR);
    let terminated = |kind: &EventKind| match kind {
        EventKind::Terminated { connections } => Some(*connections),
        _ => None,
    };
    assert_eq!(keeper.event(first, terminated).await.unwrap(), 1);
    assert!(diesel::sql_query("SELECT 1").execute(&mut borrowed).await.is_err());
    drop(borrowed);
    assert_eq!(user_of_next(&pool).await.unwrap(), new);
    pool.close().await;
}
