//! The keeper's lines in the log, and its own errors.

use std::{sync::Once, time::Duration};

use leasehold_core::{Error, ErrorKind, Generation, Party, Record, Result};
use tracing::{debug, info, warn};

use crate::machine::{Line, Outcome};

pub(crate) fn say<S>(line: Line, error: Option<&Error>, record: Option<&Record<S>>) {
    let generation = record.map(Record::generation);
    let error = error.map(tracing::field::display);
    match line {
        Line::Issued { because } => {
            let ttl = record.map(|record| record.lease().ttl());
            info!(?generation, ?ttl, ?because, "issued");
        }
        Line::SameAgain { because } => {
            warn!(?generation, ?because, "it has no successor: the provider answers with the same again");
        }
        Line::NotRotated { overdue } => {
            warn!(
                ?generation,
                ?overdue,
                "the server was to replace it and has not: it goes on working, and is not rotated"
            );
        }
        Line::TokenSuperseded => debug!("the token above has a successor"),
        Line::FewUsesLeft => debug!("few uses of it are left"),
        Line::CannotBeRenewed => debug!(error, "it cannot be renewed"),
        Line::RenewalsDenied => {
            warn!(
                "not allowed to renew: from now on it is asked for once in each lease, which is replaced before its end"
            );
        }
        Line::MayHaveLeftALease => warn!(
            error,
            "an issue was not answered: it may have left a lease that nobody knows of, until its token goes"
        ),
        Line::NotRenewedForDraining => debug!(error, "not renewed for draining"),
        Line::EndedByItself(generation) => debug!(%generation, "ended by itself"),
        Line::NotAllowedToRevoke => warn!(
            error,
            "not allowed to revoke what nothing uses any more: it stays until its max TTL or its token's end"
        ),
        Line::RevocationNeedsAnOperator { generation, wait } => {
            warn!(%generation, error, ?wait, "not revoked: somebody has to mend that");
        }
        Line::NotRevokedYet { generation, wait } => debug!(%generation, error, ?wait, "not revoked yet"),
        Line::StillInUseAtShutDown { generations } => warn!(
            generations,
            "still in use at shut-down; revoked all the same: shut down leaf first, pools before anything"
        ),
    }
}

pub(crate) fn failed(generation: Generation, error: &Error, retry_in: Duration, grave: bool) {
    if generation.number() == 0 {
        info!(%error, wait = ?retry_in, "the first secret cannot be obtained yet");
    } else if grave {
        warn!(%generation, %error, ?retry_in, "the secret nears its end");
    } else {
        info!(%generation, %error, ?retry_in, "a request failed; the secret in use is not touched");
    }
}

pub(crate) fn recovered() {
    info!("requests succeed again");
}

/// A renewal has two fifths of the TTL in hand, and a line tells when lateness begins to use that up.
pub(crate) fn late(late: Duration) {
    if late > WORTH_A_WORD {
        info!(?late, "acted late: the process stood still, or something blocks its runtime");
    }
}

pub(crate) fn over_budget(name: &str, limited_uses: bool, wait: Duration) -> Error {
    let why = if limited_uses {
        "does everything that needs it use it up (token_num_uses)?"
    } else {
        "is it refused each time?"
    };
    let message = format!("{name} was issued too often, and waits: {why}");
    let error = Error::new(ErrorKind::RateLimited, Party::Configuration, message);
    warn!(%error, ?wait, "the budget for issuing is used up");
    error
}

/// A record whose revocation would end the secret in force.
pub(crate) fn left_in_force<S>(record: &Record<S>) {
    static ONCE: Once = Once::new();
    let (generation, subject) = (record.generation(), record.lease().subject());
    ONCE.call_once(|| {
        warn!(
            %generation, subject,
            "two leases have the same user or token, so the older one is left to its end: make the names unique \
             (username_template), and let no cache answer for the server"
        );
    });
    debug!(%generation, subject, "not revoked: the secret in force would end with it");
}

pub(crate) fn no_successor(name: &str) -> Error {
    let message = format!(
        "{name} was answered with the lease or token that is in force, as a cache between this process and the server would: \
         address the server itself"
    );
    Error::new(ErrorKind::Unexpected, Party::Vault, message)
}

/// The end of a shut-down, for its caller.
pub(crate) fn outcome(outcome: Outcome, name: &str, last: Option<&Error>) -> Result<()> {
    let (kind, party, message) = match outcome {
        Outcome::Clean => return Ok(()),
        Outcome::Left(left) => match last {
            Some(error) => {
                let why = error.message();
                let message =
                    format!("{left} of {name} not revoked, left to end at its TTL or with its token: {why}");
                (error.kind(), error.party(), message)
            }
            None => (
                ErrorKind::Unreachable,
                Party::Vault,
                format!(
                    "{left} of {name} not revoked within the bound, left to end at its TTL or with its token"
                ),
            ),
        },
    };
    Err(Error::new(kind, party, message))
}

pub(crate) fn ended_by_itself(ended: Result<()>) {
    match ended {
        Ok(()) => info!("ended, and revoked what it had issued: nobody could read the secret any more"),
        Err(error) => warn!(%error, "ended without a shut-down, and left something behind"),
    }
}

pub(crate) fn no_first_answer() -> Error {
    let message = "the request for the first secret was not answered within the start policy's bound";
    Error::new(ErrorKind::Unreachable, Party::Vault, message)
}

/// A step this late is no matter of scheduling.
const WORTH_A_WORD: Duration = Duration::from_secs(1);
