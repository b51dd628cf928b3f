//! What works is kept alive, whatever becomes of its successor.

mod common;

use common::{Server, error, secs};
use leasehold_core::{
    Current, ErrorKind, Grant, Provider, Record, Renewed, Result, Revoked, Status, Token, async_trait,
    clock::Clock,
};
use leasehold_renewal::Keeper;

/// In how many of so many seconds there was nothing usable.
async fn seconds_without(server: &Server, keeper: &Keeper<Token>, seconds: u64) -> u64 {
    let mut without = 0;
    for _ in 0..seconds {
        server.wait(secs(1)).await;
        without += u64::from(!keeper.health().is_usable());
    }
    without
}

#[tokio::test(start_paused = true)]
async fn under_service_tokens_that_end_long_before_their_leases_there_is_always_one() {
    for ttl in [60, 300, 600] {
        let tokens = Server::new(ttl, ttl);
        let token = tokens.builder().start(tokens.clone()).await.unwrap();
        let leases = Server::new(3600, 86_400).under(token.current(), &tokens.clock);
        let login = leases.builder().start(leases.clone()).await.unwrap();
        let without = seconds_without(&tokens, &login, 6 * 3600).await;
        assert_eq!(without, 0, "seconds without credentials, under tokens of {ttl} s");
        let issued = leases.count("issue");
        assert!(issued < 6 * 3600 * 3 / ttl as usize, "{issued} issues under tokens of {ttl} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ttl_that_is_shortened_is_kept_up_with() {
    let server = Server::new(86_400, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| (state.ttl, state.max_ttl) = (secs(300), secs(300)));
    let without = seconds_without(&server, &keeper, 86_400 + 6 * 3600).await;
    assert_eq!(without, 0, "seconds without a secret");
    assert!(server.count("issue") > 6 * 3600 / 300, "{} issues", server.count("issue"));
}

#[tokio::test(start_paused = true)]
async fn whose_token_is_superseded_it_is_renewed_to_that_tokens_end_while_issues_are_refused() {
    let tokens = Server::new(3600, 3600);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(300, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(leases.clone()).await.unwrap();
    let old = login.current().get().unwrap();
    leases.set(|state| state.faults.push(("issue", ErrorKind::RateLimited)));
    token.current().changed().await.unwrap();
    let end = old.parent().unwrap().usable_until();
    let left = tokens.clock.now().until(end);
    assert!(left > secs(60), "{left:?} of the old token left");
    let without = seconds_without(&tokens, &login, left.as_secs()).await;
    assert_eq!(without, 0, "seconds without credentials in the {left:?} that their token had left");
    leases.set(|state| state.faults.clear());
    let back = tokens.clock.now();
    login.current().changed().await.unwrap();
    assert!(back.until(tokens.clock.now()) <= secs(30), "{:?}", back.until(tokens.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn what_one_pool_rejects_is_renewed_for_the_others_while_issues_are_refused() {
    let server = Server::new(300, 86_400);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.wait(secs(400)).await;
    server.set(|state| state.faults.push(("issue", ErrorKind::RateLimited)));
    let generation = keeper.current().get().unwrap().generation();
    for _ in 0..2 {
        keeper.current().reject(generation, ErrorKind::CredentialsRefused);
        server.wait(secs(2)).await;
    }
    let renewals = server.count("renew");
    let without = seconds_without(&server, &keeper, 7200).await;
    let renewals = server.count("renew") - renewals;
    assert_eq!(without, 0, "seconds without a secret");
    assert!((24..80).contains(&renewals), "{renewals} renewals in two hours");
    server.set(|state| state.faults.clear());
    server.wait(secs(60)).await;
    assert!(keeper.current().get().unwrap().generation() > generation, "replaced when that is possible");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_uses_up_the_budget_leaves_the_others_what_works() {
    for configured in [None, Some((3, secs(900)))] {
        let server = Server::new(300, 86_400);
        let builder = match configured {
            Some((in_a_row, interval)) => server.builder().issue_budget(in_a_row, interval),
            None => server.builder(),
        };
        let keeper = builder.start(server.clone()).await.unwrap();
        let mut without = 0;
        for _ in 0..7200 {
            let current = keeper.current();
            current.reject(current.get().unwrap().generation(), ErrorKind::CredentialsRefused);
            without += seconds_without(&server, &keeper, 1).await;
        }
        assert_eq!(without, 0, "seconds without a secret; budget {configured:?}");
    }
}

/// Whose policy allows neither renewals nor lookup-self: each 403 reads as a dead token.
struct Blind(Server, Current<Token>);

#[async_trait]
impl Provider for Blind {
    type Secret = Token;

    async fn issue(&self) -> Result<Grant<Token>> {
        self.0.issue().await
    }

    async fn renew(&self, _: &Record<Token>) -> Result<Renewed> {
        self.1.reject(self.1.get()?.generation(), ErrorKind::DeadToken);
        Err(error(ErrorKind::DeadToken))
    }

    async fn revoke(&self, of: &Record<Token>) -> Result<Revoked> {
        self.0.revoke(of).await
    }

    fn name(&self) -> String {
        "blind".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn where_each_no_reads_as_a_dead_token_there_is_always_one() {
    let tokens = Server::new(3600, 86_400);
    let token = tokens.builder().start(tokens.clone()).await.unwrap();
    let leases = Server::new(60, 86_400).under(token.current(), &tokens.clock);
    let login = leases.builder().start(Blind(leases.clone(), token.current())).await.unwrap();
    let without = seconds_without(&tokens, &login, 3600).await;
    assert_eq!(without, 0, "seconds without credentials");
    let logins = tokens.count("issue");
    assert!(logins < 30, "{logins} logins in an hour");
}

#[tokio::test(start_paused = true)]
async fn each_succession_leaves_the_time_to_drain_whichever_ends_first() {
    let tokens_ =
        [(600, 600, true), (600, 1500, true), (600, 600, false), (100, 250, true), (86_400, 864_000, true)];
    let leases_ = [(300, 86_400, true), (300, 700, true), (300, 300, false), (3600, 86_400, true)];
    for (token_ttl, token_max, token_renewable) in tokens_ {
        for (ttl, max, renewable) in leases_ {
            let tokens = Server::new(token_ttl, token_max);
            tokens.set(|state| state.renewable = token_renewable);
            let token = tokens.builder().start(tokens.clone()).await.unwrap();
            let leases = Server::new(ttl, max).under(token.current(), &tokens.clock);
            leases.set(|state| state.renewable = renewable);
            let login = leases.builder().start(leases.clone()).await.unwrap();
            let mut current = login.current();
            let mut last = current.get().unwrap();
            let due = secs(60).min(secs(ttl.min(token_ttl)).mul_f64(0.4));
            for _ in 0..8 {
                let next = current.changed().await.unwrap();
                let left = tokens.clock.now().until(last.usable_until());
                assert!(
                    left + secs(1) >= due,
                    "{left:?} left, {due:?} due: {ttl}/{max} under {token_ttl}/{token_max}, renewable: {renewable}, {token_renewable}"
                );
                last = next;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_everything_renewals_are_tried_again_while_issues_are_refused() {
    let server = Server::new(3600, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| {
        state.faults = vec![("renew", ErrorKind::Unreachable), ("issue", ErrorKind::DatabaseFull)]
    });
    server.until("issue", 2).await;
    server.set(|state| state.faults = vec![("issue", ErrorKind::DatabaseFull)]);
    assert_eq!(seconds_without(&server, &keeper, 6 * 3600).await, 0, "it can be renewed");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_database_failed_to_renew_twice_is_renewed_again_while_issues_are_refused() {
    let server = Server::new(3600, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| {
        state.faults = vec![("renew", ErrorKind::RenewalFailed), ("issue", ErrorKind::DatabaseUnavailable)];
    });
    server.until("issue", 2).await;
    server.set(|state| state.faults = vec![("issue", ErrorKind::DatabaseUnavailable)]);
    assert_eq!(seconds_without(&server, &keeper, 6 * 3600).await, 0, "it can be renewed");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_comes_no_sooner_than_the_server_asks_after_a_refused_issue() {
    let server = Server::new(100, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.set(|state| {
        state.faults.push(("issue", ErrorKind::RateLimited));
        state.retry_after = Some(secs(20));
    });
    server.wait(secs(2)).await;
    server.refuse(&keeper.current()).await;
    for _ in 0..20 {
        let issues = server.count("issue");
        server.until("issue", issues + 1).await;
        let failed = server.clock.now();
        server.wait(secs(19)).await;
        let sooner = server.times("renew").into_iter().filter(|at| *at > failed).count();
        assert_eq!(sooner, 0, "the server asked for 20 s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_no_to_a_renewal_is_no_success_while_a_successor_cannot_be_issued() {
    let server = Server::new(600, 864_000);
    let keeper = server.builder().start(server.clone()).await.unwrap();
    server.wait(secs(2)).await;
    server.set(|state| state.faults.push(("issue", ErrorKind::DatabaseFull)));
    server.refuse(&keeper.current()).await;
    let renewals = server.count("renew");
    server.set(|state| state.faults.push(("renew", ErrorKind::NotRenewable)));
    server.until("renew", renewals + 1).await;
    let issues = server.count("issue");
    server.wait(secs(1) / 10).await;
    assert!(matches!(keeper.health().status, Status::Degraded { .. }), "{:?}", keeper.health());
    assert_eq!(server.count("issue"), issues, "it is no reason to hurry");
}

/// Its issue was tried only because renewals failed, and both failed for the same reason.
#[tokio::test(start_paused = true)]
async fn as_soon_as_a_renewal_succeeds_again_so_does_the_issue_that_failed_with_it() {
    for kind in [ErrorKind::NotFound, ErrorKind::Denied] {
        let server = Server::new(20, 86_400);
        let keeper = server.builder().start(server.clone()).await.unwrap();
        server.set(|state| state.down = Some(kind));
        server.wait(secs(13)).await;
        server.set(|state| state.down = None);
        server.wait(secs(5)).await;
        assert_eq!(keeper.health().status, Status::Healthy, "{kind}");
        assert!(keeper.health().is_usable());
    }
}
