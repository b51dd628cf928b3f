//! Facts of grants, tokens and errors as the machine sees them.

use leasehold_core::{Error, Grant, Issued, Token, TokenKind};

use crate::machine::{Authority, Carried, Failure, Granted, Made, Terms, TokenCaps, TokenSeen, TokenState};

pub(crate) fn granted<S>(grant: &Grant<S>, same: bool) -> Granted {
    let lease = &grant.lease;
    // A secret with a version and without a lease, such as the password of a static role, is replaced by somebody else.
    let read = grant.version.is_some() && lease.id().is_empty() && !lease.renewable();
    let terms = Terms {
        ttl: lease.ttl(),
        increment: lease.increment(),
        renewable: lease.renewable(),
        renewals_for: lease.renewals_for(),
        poll: lease.poll(),
        revoked_with: if lease.id().is_empty() && grant.parent.is_none() {
            Authority::Itself
        } else {
            Authority::TokenAbove
        },
        made: if read { Made::ByOthers } else { Made::ForUs },
    };
    Granted { terms, same, token: grant.parent.as_deref().map(token) }
}

pub(crate) fn token(token: &Issued<Token>) -> TokenSeen {
    TokenSeen {
        generation: token.generation(),
        end: token.usable_until(),
        state: if token.is_superseded() { TokenState::Superseded } else { TokenState::Latest },
        caps: if token.secret().kind() == TokenKind::Batch { TokenCaps::Cuts } else { TokenCaps::Leaves },
    }
}

pub(crate) fn failure(error: &Error) -> Failure {
    Failure {
        kind: error.kind(),
        party: error.party(),
        retry_after: error.retry_after(),
        carried: if error.may_have_been_carried_out() { Carried::Maybe } else { Carried::No },
    }
}
