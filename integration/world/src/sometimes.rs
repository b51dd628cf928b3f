//! Rare states that a hundred years must reach. If one is never reached, then the world has lost the power to show what goes
//! wrong there, and the run fails.

use serde::{Serialize, Serializer};

macro_rules! catalogue {
    ($($name:ident => $text:literal),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Sometimes {
            $($name),*
        }

        impl Sometimes {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text),*
                }
            }
        }
    };
}

catalogue! {
    // What keepers tell.
    Issued => "issued",
    Renewed => "renewed",
    Truncated => "a renewal is truncated",
    Retiring => "an old generation is still in use",
    RetiredInUse => "retired with connections left",
    Revoked => "revoked",
    LeftToItsToken => "left to its token",
    NotRotated => "a static role is not rotated",
    Rejected => "rejected",
    Terminated => "terminated",
    Degraded => "degraded",
    Recovered => "recovered",
    LongBackOff => "the next attempt is five minutes away or more",
    // What the server answers.
    LoginRefused => "a login is refused",
    IssueUnderDeadToken => "an issue is refused, since its token is dead",
    ReadUnderDeadToken => "a read is refused, since its token is dead",
    LeaseIsGone => "a renewal names a lease that is gone",
    RenewalForbidden => "a renewal is forbidden",
    RevocationForbidden => "a revocation is forbidden",
    ForbiddenThenRevoked => "revocations were forbidden, and one is carried out later",
    IssueLost => "an issue's answer is lost",
    RenewalLost => "a renewal's answer is lost",
    RevocationLost => "a revocation's answer is lost",
    ReadLost => "a read's answer is lost",
    TokenDiesDuringIssue => "a token dies while an issue under it is in flight",
    // When a service stops.
    StopDuringIssue => "a service stops while an issue is in flight",
    StopDuringRenewal => "a service stops while a renewal is in flight",
    StopDuringRevocation => "a service stops while a revocation is in flight",
    StopDuringRotation => "a service stops while a pool has old connections",
    LeftBehind => "a service stops and cannot revoke everything",
    // What pools meet.
    HeldLong => "a caller keeps a connection for long",
    MeetsDeadUser => "a query meets a user that is dead",
    DatabaseIsFull => "a handshake meets a full database",
    HandshakeRefused => "a handshake is refused, since its user is dead",
    MadeRoom => "an idle connection ends to make room for a successor",
    Saturated => "a rotation meets a pool whose places are all borrowed",
    ExchangedInPassing => "a connection that comes back is exchanged in passing",
    NobodyCameBack => "a successor waits for a borrowed connection that does not come back",
    ThreeGenerations => "a pool has connections of three generations",
    // What an observer sees.
    NotReady => "a role is not ready",
    ManyUsers => "a role has ten users or more",
    SleepsLongerThanALife => "a host sleeps for longer than a life",
}

impl Serialize for Sometimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}
