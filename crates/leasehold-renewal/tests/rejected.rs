//! Whoever uses the secret says that it is refused.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Server, error, secs};
use leasehold_core::{
    Credentials, Current, ErrorKind, Grant, Issued, Provider, Record, Renewed, Result, Retired, Revoked,
    Rotate, async_trait, clock::Clock, drive,
};

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

#[tokio::test(start_paused = true)]
async fn a_storm_of_rejects_does_not_keep_the_keeper_from_acting() {
    let server = Server::new(600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let current = keeper.current();
    server.set(|state| state.leases.clear());
    let generation = current.get().unwrap().generation();
    for _ in 0..200 {
        current.reject(generation, ErrorKind::CredentialsRefused);
        server.wait(Duration::from_millis(5)).await;
    }
    assert!(current.get().unwrap().generation() > generation, "replaced within a second");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_cannot_be_answered_counts_as_a_no() {
    for kind in [ErrorKind::NotRenewable, ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::RenewalFailed] {
        let server = Server::new(3600, 86_400);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.set(|state| state.faults.push(("renew", kind)));
        let mut current = keeper.current();
        let rejected = server.clock.now();
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        current.changed().await.unwrap();
        assert!(rejected.until(server.clock.now()) < secs(2), "{kind}");
    }
}

/// Credentials from the scripted server.
struct Logins(Server);

#[async_trait]
impl Provider for Logins {
    type Secret = Credentials;

    async fn issue(&self) -> Result<Grant<Credentials>> {
        let Grant { lease, .. } = self.0.issue().await?;
        Ok(Grant::new(Credentials::new("name", "password".to_owned()), lease))
    }

    async fn renew(&self, _: &Record<Credentials>) -> Result<Renewed> {
        self.0.set(|state| state.requests.push((self.0.clock.now(), "renew")));
        let fault = self.0.state.lock().unwrap().faults.first().map(|fault| fault.1);
        fault.map_or(Ok(Renewed { ttl: secs(3600) }), |kind| Err(error(kind)))
    }

    async fn revoke(&self, _: &Record<Credentials>) -> Result<Revoked> {
        Ok(Revoked::Done)
    }

    fn name(&self) -> String {
        "logins".to_owned()
    }
}

struct Pool {
    refuses: bool,
}

#[async_trait]
impl Rotate for Pool {
    async fn adopt(&self, _: &Arc<Issued<Credentials>>) -> Result<()> {
        if self.refuses { Err(error(ErrorKind::CredentialsRefused)) } else { Ok(()) }
    }

    async fn retire(&self, _: &Arc<Issued<Credentials>>) -> Retired {
        Retired { remaining: Some(0) }
    }
}

fn run_pool(current: Current<Credentials>, refuses: bool) {
    let in_force = current.get().unwrap();
    tokio::spawn(async move { drive(current, in_force, &Pool { refuses }).await });
}

#[tokio::test(start_paused = true)]
async fn one_bad_pool_does_not_make_the_server_issue_without_end_whatever_the_others_and_the_server_say() {
    for (beside_a_good_one, says) in [
        (false, None),
        (true, None),
        (false, Some(ErrorKind::RenewalFailed)),
        (false, Some(ErrorKind::LeaseGone)),
    ] {
        let server = Server::new(3600, 86_400);
        server.set(|state| state.faults.extend(says.map(|kind| ("renew", kind))));
        let keeper = server.builder().start(Logins(server.clone())).await.unwrap();
        run_pool(keeper.current(), true);
        if beside_a_good_one {
            run_pool(keeper.current(), false);
        }
        // The first generation is in force in both; a second sets things going.
        keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::CredentialsRefused);
        server.wait(secs(1)).await;
        keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::CredentialsRefused);
        server.wait(secs(3600)).await;
        let issued = server.count("issue");
        assert!(
            (3..40).contains(&issued),
            "{issued} in an hour; beside a good one: {beside_a_good_one}, {says:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_false_alarm_about_a_token_without_a_successor_does_not_end_its_renewals() {
    let server = Server::new(60, 86_400);
    server.set(|state| state.version = Some("the same".to_owned()));
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.wait(secs(5)).await;
    keeper.current().reject(keeper.current().get().unwrap().generation(), ErrorKind::DeadToken);
    server.wait(secs(600)).await;
    assert!(server.count("renew") >= 10, "{} renewals in ten minutes", server.count("renew"));
    assert!(keeper.health().is_usable());
    assert_eq!(keeper.current().get().unwrap().generation().number(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_whose_secrets_are_gone_at_once_meets_a_budget_that_is_said() {
    let server = Server::new(3600, 86_400);
    let keeper = server.builder().issue_budget(5, secs(600)).start(server.clone()).await.unwrap();
    let mut events = keeper.events();
    let current = keeper.current();
    let mut said = false;
    for _ in 0..3600 {
        server.set(|state| state.leases.clear());
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        server.wait(secs(1)).await;
        while let Ok(event) = events.try_recv() {
            said |= matches!(event.kind, leasehold_core::EventKind::Failed { ref error, .. } if error.to_string().contains("issued too often"));
        }
    }
    let issued = server.count("issue");
    assert!(issued <= 5 + 6 + 1, "{issued} in an hour");
    assert!(said, "the budget is reported");
}
