//! What was asked of OpenBao, counted, and compared with what a keeper says it did.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};
use leasehold_core::EventKind;
use leasehold_testbed::Request;

/// Requests by what they ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests for credentials.
    pub issues: usize,
    /// Renewals of leases.
    pub renewals: usize,
    /// Logins.
    pub logins: usize,
    /// Renewals of tokens.
    pub token_renewals: usize,
    /// What became of a token?
    pub lookups: usize,
    /// Revocations of leases and tokens.
    pub revocations: usize,
    /// Everything else.
    pub others: usize,
    /// Those of them that bear a token, ask for something else than what became of it, and were answered 403.
    pub denied: usize,
}

/// Where the keeper of credentials tries.
pub const CREDENTIALS: &[&str] = &[ISSUE, RENEW];

/// Where the keeper of a token tries.
pub const TOKEN: &[&str] = &[LOGIN, RENEW_SELF];

impl Tally {
    /// Counts.
    pub fn of(requests: &[Request]) -> Self {
        let mut tally = Self::default();
        for request in requests {
            let path = request.path.as_str();
            let counter = match path {
                LOOKUP_SELF => &mut tally.lookups,
                REVOKE_SELF | REVOKE => &mut tally.revocations,
                _ if path.starts_with(ISSUE) => &mut tally.issues,
                _ if path.starts_with(RENEW) => &mut tally.renewals,
                _ if path.starts_with(LOGIN) => &mut tally.logins,
                _ if path.starts_with(RENEW_SELF) => &mut tally.token_renewals,
                _ => &mut tally.others,
            };
            *counter += 1;
            let asks = path != LOOKUP_SELF && !path.starts_with(LOGIN);
            tally.denied += usize::from(asks && request.status == Some(403));
        }
        tally
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.issues
            + self.renewals
            + self.logins
            + self.token_renewals
            + self.lookups
            + self.revocations
            + self.others
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issues, renewals, logins, token_renewals, lookups, revocations, others, denied } = self;
        write!(
            f,
            "{} requests ({issues} issues, {renewals} renewals, {logins} logins, {token_renewals} of the token, \
             {lookups} lookups after {denied} times 403, {revocations} revocations, {others} others)",
            self.total()
        )
    }
}

/// Makes sure that one keeper, which tries at the paths that begin with `places`, made one attempt per step: as many
/// failed requests as it reports failures, each after the wait that was announced with the one before. Returns how many.
///
/// # Errors
/// What did not fit.
pub fn one_attempt_per_step(requests: &[Request], places: &[&str], events: &[EventKind]) -> Result<usize> {
    let here = |request: &&Request| places.iter().any(|place| request.path.starts_with(place));
    // Without a status, and without a fault, it is under way.
    let unsuccessful = |request: &&Request| request.status.map_or(request.faulty, |status| status >= 400);
    let failed: Vec<&Request> = requests.iter().filter(here).filter(unsuccessful).collect();
    let waits: Vec<Duration> = events
        .iter()
        .filter_map(|event| match event {
            EventKind::Failed { retry_in, .. } => Some(*retry_in),
            _ => None,
        })
        .collect();
    ensure!(
        failed.len() == waits.len(),
        "{} failed requests, {} failures reported: {failed:#?} {events:#?}",
        failed.len(),
        waits.len()
    );
    // What somebody reports as refused is no longer tried slowly, whatever was announced.
    let first = events.iter().position(|event| matches!(event, EventKind::Failed { .. })).unwrap_or_default();
    let hurried = events.iter().skip(first).any(|event| matches!(event, EventKind::Rejected { .. }));
    for (pair, wait) in failed.windows(2).zip(&waits) {
        let gap = pair[1].at - pair[0].at;
        let least = if hurried { SPACING } else { (*wait).max(SPACING) }.saturating_sub(SLOP);
        ensure!(gap >= least, "{gap:?} between two attempts; announced: {wait:?}; {failed:#?}");
    }
    Ok(failed.len())
}

const ISSUE: &str = "/v1/database/creds/";
const RENEW: &str = "/v1/sys/leases/renew";
const REVOKE: &str = "/v1/sys/leases/revoke";
const LOGIN: &str = "/v1/auth/kubernetes/login";
const RENEW_SELF: &str = "/v1/auth/token/renew-self";
const LOOKUP_SELF: &str = "/v1/auth/token/lookup-self";
const REVOKE_SELF: &str = "/v1/auth/token/revoke-self";
/// The least distance of two requests of one keeper.
const SPACING: Duration = Duration::from_millis(250);
/// By how much a request may be late at the recorder, and its successor not.
const SLOP: Duration = Duration::from_millis(150);
