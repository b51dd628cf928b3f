//! However often it is asked for something, a keeper asks little of the server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Server, secs};
use leasehold_core::{
    ErrorKind, Grant, Lease, Provider, Record, Renewed, Result, Revoked, Token, async_trait, clock::Clock,
};
use leasehold_renewal::Keeper;

async fn reject_twice(server: &Server, keeper: &Keeper<Token>) {
    let generation = keeper.current().get().unwrap().generation();
    for _ in 0..2 {
        keeper.current().reject(generation, ErrorKind::CredentialsRefused);
        server.wait(secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_stepped_without_end_costs_few_renewals() {
    let server = Server::new(3600, 864_000);
    let _keeper = server.builder().start(server.clone()).await.unwrap();
    for _ in 0..1800 {
        server.clock.step_wall_clock();
        server.wait(secs(2)).await;
    }
    let renewals = server.count("renew");
    assert!((1..=30).contains(&renewals), "{renewals} renewals in an hour of a step each 2 s");
    assert_eq!(server.count("issue"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mere_look_is_no_reason_to_replace_what_cannot_be_extended() {
    for _ in 0..20 {
        let server = Server::new(3600, 3600);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.wait(secs(60)).await;
        server.clock.step_wall_clock();
        server.wait(secs(800)).await;
        assert_eq!((server.count("renew"), server.count("issue")), (1, 1));
        assert_eq!(keeper.current().get().unwrap().generation().number(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn steps_without_end_replace_nothing_early_in_a_chain_either() {
    let tokens = Server::new(3600, 3600);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(3600, 86_400).under(token.current(), &tokens.clock);
    let _login = leases.builder().start(leases.clone()).await.unwrap();
    for _ in 0..1800 {
        tokens.clock.step_wall_clock();
        tokens.wait(secs(2)).await;
    }
    for server in [&tokens, &leases] {
        let (issues, renewals) = (server.count("issue"), server.count("renew"));
        assert!(issues <= 4, "{issues} issues in an hour of a step each 2 s");
        assert!(renewals <= 40, "{renewals} renewals in an hour of a step each 2 s");
    }
}

#[tokio::test(start_paused = true)]
async fn issues_whose_answers_are_lost_leave_few_leases() {
    let server = Server::new(86_400, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| state.lost_answers = true);
    reject_twice(&server, &keeper).await;
    server.wait(secs(12 * 3600)).await;
    let alive = server.live_leases().len();
    assert!((20..250).contains(&alive), "{alive} leases alive after 12 h");
    server.set(|state| state.lost_answers = false);
    server.wait(secs(600)).await;
    assert_eq!(keeper.current().get().unwrap().generation().number(), 2, "there is one within ten minutes");
}

#[tokio::test(start_paused = true)]
async fn first_issues_whose_answers_are_lost_leave_few_leases_too() {
    let server = Server::new(86_400, 86_400);
    server.set(|state| state.lost_answers = true);
    let policy = leasehold_renewal::StartPolicy::Degraded;
    let _keeper = server.builder().start_policy(policy).start(server.clone()).await.unwrap();
    server.wait(secs(12 * 3600)).await;
    let alive = server.live_leases().len();
    assert!(alive < 250, "{alive} leases alive after 12 h");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_an_operator_must_mend_is_tried_slowly() {
    for kind in [ErrorKind::NotFound, ErrorKind::Configuration, ErrorKind::Redirected] {
        let server = Server::new(2_592_000, 31_536_000);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.set(|state| state.faults.push(("revoke", kind)));
        reject_twice(&server, &keeper).await;
        server.wait(secs(86_400)).await;
        let tries = server.count("revoke");
        assert!((100..350).contains(&tries), "{kind}: {tries} revocations of one lease in a day");
        server.set(|state| state.faults.clear());
        server.wait(secs(601)).await;
        assert_eq!(server.live_leases(), ["lease/2"], "{kind}");
    }
}

/// Something like a static role that does not rotate: always the same, without an end.
struct Unchanging(Server);

#[async_trait]
impl Provider for Unchanging {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let Grant { secret, .. } = self.0.issue().await?;
        Ok(Grant::new(secret, Lease::endless()).version("1"))
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        unreachable!("it does not end")
    }

    async fn revoke(&self, _: &Record<Token>) -> Result<Revoked> {
        Ok(Revoked::NotOurs)
    }

    fn name(&self) -> String {
        "unchanging".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_neither_an_end_nor_a_successor_is_read_seldom_however_often_it_is_rejected() {
    let server = Server::new(3600, 3600);
    let keeper = server.builder().start(Unchanging(server.clone())).await.unwrap();
    let current = keeper.current();
    for _ in 0..3600 {
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
        server.wait(secs(1)).await;
    }
    let reads = server.count("issue");
    assert!((10..120).contains(&reads), "{reads} reads in an hour of one reject each second");
    assert_eq!(current.get().unwrap().generation().number(), 1);
}

/// Something like a static role: it ends a little after each minute, and whoever asks in between is given another minute.
struct Late(Server);

#[async_trait]
impl Provider for Late {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        let Grant { secret, .. } = self.0.issue().await?;
        let into_minute = self.0.clock.now().as_nanos() % 60_000_000_000;
        let rest = secs(60) - Duration::from_nanos(into_minute);
        Ok(Grant::new(secret, Lease::new("", rest + Duration::from_millis(1500), false)).version("1"))
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        unreachable!("it is not renewable")
    }

    async fn revoke(&self, _: &Record<Token>) -> Result<Revoked> {
        Ok(Revoked::NotOurs)
    }

    fn name(&self) -> String {
        "late".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_extended_just_before_its_end_never_looks_ended() {
    let server = Server::new(3600, 3600);
    let keeper = server.builder().start(Late(server.clone())).await.unwrap();
    for _ in 0..60_000 {
        assert!(keeper.health().is_usable());
        server.wait(secs(1) / 100).await;
    }
    let reads = server.count("issue");
    assert!((10..200).contains(&reads), "{reads} reads in ten minutes");
    assert_eq!(keeper.current().get().unwrap().generation().number(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_death_that_the_server_confirms_does_not_wait_for_the_limit_on_rejects() {
    let server = Server::new(3600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let reject = || {
        let current = keeper.current();
        current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
    };
    for _ in 0..7200 {
        reject();
        server.wait(secs(1) / 2).await;
    }
    // Right after a replacement the next one is farthest away.
    let mut current = keeper.current();
    loop {
        reject();
        if tokio::time::timeout(secs(1), current.changed()).await.is_ok() {
            break;
        }
    }
    let (died, generation) = (server.clock.now(), current.get().unwrap().generation());
    server.set(|state| state.leases.clear());
    while current.get().unwrap().generation() == generation {
        reject();
        server.wait(secs(1) / 2).await;
    }
    let late = died.until(server.clock.now());
    assert!(late <= secs(2), "a successor after {late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_real_death_does_not_hide_behind_a_bad_pool() {
    let server = Server::new(3600, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    let current = keeper.current();
    let reject = || current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
    // A pool that nothing satisfies has had a few successors already, and waits for another for many minutes.
    for _ in 0..1200 {
        reject();
        server.wait(secs(1) / 2).await;
    }
    server.set(|state| state.leases.clear());
    let (died, dead) = (server.clock.now(), current.get().unwrap().generation());
    while current.get().unwrap().generation() == dead {
        reject();
        server.wait(secs(1) / 2).await;
    }
    let took = died.until(server.clock.now());
    assert!(took < secs(35), "{took:?} until a successor");
}

#[tokio::test(start_paused = true)]
async fn the_last_renewal_of_an_old_lease_keeps_its_distance_too() {
    let tokens = Server::new(6000, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(600, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    let user = login.current().get().unwrap();
    tokens.wait(secs(2)).await;
    token.current().reject(token.current().get().unwrap().generation(), ErrorKind::DeadToken);
    leases.until("issue", 2).await;
    leases.wait(secs(2)).await;
    let mut times = [leases.times("issue"), leases.times("renew")].concat();
    times.sort();
    let issued = leases.times("issue")[1];
    let last = times.iter().find(|at| **at >= issued && leases.times("renew").contains(at));
    assert!(last.is_some_and(|at| issued.until(*at) <= secs(1)), "it was renewed for draining");
    for pair in times.windows(2) {
        assert!(pair[0].until(pair[1]) >= Duration::from_millis(250), "{:?} apart", pair[0].until(pair[1]));
    }
    drop(user);
}
