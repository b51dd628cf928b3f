//! Whoever uses the secret says that it is refused.

mod common;

use common::{Server, secs};
use leasehold_core::ErrorKind;

#[tokio::test(start_paused = true)]
async fn a_rejected_secret_that_is_dead_is_replaced_after_one_question() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let mut current = keeper.current();
    server.set(|state| state.leases.clear());
    server.wait(secs(10)).await;
    current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
    current.changed().await.unwrap();
    assert_eq!((server.count("renew"), server.count("issue")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_secret_that_lives_is_replaced_at_the_second_reject() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let current = keeper.current();
    let generation = current.get().unwrap().generation();
    current.reject(generation, ErrorKind::CredentialsRefused);
    server.wait(secs(1)).await;
    assert_eq!((server.count("renew"), server.count("issue")), (1, 1));
    current.reject(generation, ErrorKind::CredentialsRefused);
    server.wait(secs(1)).await;
    assert_eq!((server.count("renew"), server.count("issue")), (1, 2));
    current.reject(generation, ErrorKind::CredentialsRefused);
    server.wait(secs(1)).await;
    assert_eq!(server.count("issue"), 2, "a report about a superseded generation is nobody's business");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_nothing_satisfies_does_not_make_the_server_issue_without_end() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let current = keeper.current();
    for _ in 0..36_000 {
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        server.wait(secs(1) / 10).await;
    }
    let issued = server.count("issue");
    assert!(issued < 40, "{issued} in an hour of one reject each 100 ms");
}
