//! The input of the machine, and its output.

use std::time::Duration;

use leasehold_core::{ErrorKind, EventKind, Generation, Party, clock::Moment};

/// A request of this keeper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) u32);

/// The shell's view at the moment of a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) now: Moment,
    /// A random number in 0..1, drawn for this step.
    pub(crate) draw: f64,
    /// The token above the current secret.
    pub(crate) token: Option<TokenSeen>,
    /// Whether few uses of the current secret are left.
    pub(crate) few_uses: bool,
    /// Until when the tokens of the [watched](super::Machine::watched) old generations are granted.
    pub(crate) old_tokens: Vec<(Generation, Moment)>,
}

/// The token above a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenSeen {
    pub(crate) generation: Generation,
    pub(crate) end: Moment,
    pub(crate) state: TokenState,
    pub(crate) caps: TokenCaps,
}

/// Whether the token above is the latest of its keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenState {
    Latest,
    Superseded,
}

/// Whether a token cuts the leases that are issued under it to its own rest, as batch tokens do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenCaps {
    Cuts,
    Leaves,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    /// Nothing but the time, or something that shows in [`Seen`].
    Wake,
    /// An issue was answered with a grant.
    Granted { id: Id, grant: Granted },
    /// A renewal was answered.
    Renewed { id: Id, ttl: Duration },
    /// A revocation was answered.
    Revoked { id: Id, ours: bool },
    /// A request failed.
    Failed { id: Id, failure: Failure },
    /// A user of the secret reports that it is refused.
    Rejected { generation: Generation, cause: ErrorKind },
    /// The provider has another secret.
    Changed,
    /// Time has jumped.
    TimeJumped,
    /// The last user of a generation has let go of it.
    LetGo(Generation),
    /// The caller who waited for the first secret has gone.
    WaiterGone,
    /// Somebody asked for a shut-down.
    Stop { deadline: Moment },
    /// No handle is left that could read the secret.
    Unread,
}

/// A grant, as far as decisions depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Granted {
    pub(crate) terms: Terms,
    /// Whether the provider says that it is the current secret again.
    pub(crate) same: bool,
    /// The token it was issued under.
    pub(crate) token: Option<TokenSeen>,
}

/// The terms of a secret, which do not change while it lives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    /// `None` if it does not end.
    pub(crate) ttl: Option<Duration>,
    /// The time that each renewal asks for.
    pub(crate) increment: Duration,
    pub(crate) renewable: bool,
    /// For how long after its issue the server renews it, where that is known.
    pub(crate) renewals_for: Option<Duration>,
    /// How often to ask whether there is another.
    pub(crate) poll: Option<Duration>,
    pub(crate) made: Made,
    pub(crate) revoked_with: Authority,
}

/// The token whose policy decides whether a secret may be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Its own: it is a token.
    Itself,
    /// That of the token above it, if there is one.
    TokenAbove,
}

/// Whether a secret was made for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// The server made it for this keeper.
    ForUs,
    /// It is only read, and somebody else replaces it: the password of a static role.
    ByOthers,
}

/// A failed request, as far as decisions depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) party: Party,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) carried: Carried,
}

/// Whether the server may have carried the request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    No,
    Maybe,
}

/// An order to the shell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Command {
    Issue(Id),
    Renew {
        id: Id,
        generation: Generation,
        bound: Duration,
    },
    Revoke {
        id: Id,
        generation: Generation,
        bound: Duration,
    },
    /// Drop the request.
    Abandon(Id),
    /// Publish the grant of this step, asked for at `sent`, as this generation.
    Publish {
        generation: Generation,
        sent: Moment,
    },
    /// Extend the current generation by the grant of this step, asked for at `sent`.
    Extend {
        sent: Moment,
    },
    /// Keep the grant of this step, only to revoke it.
    SetAside {
        generation: Generation,
        sent: Moment,
    },
    /// Move the end of a generation's own lease.
    MoveEnd {
        generation: Generation,
        end: Moment,
    },
    PresumeDead(Generation),
    /// Empty the slot that handles read.
    Close,
    /// Drop the record of an old generation.
    Forget(Generation),
    Tell(Generation, Told),
    /// Report the failure that this step is about.
    Failed {
        generation: Generation,
        retry_in: Duration,
        grave: bool,
    },
    /// Report that the budget for issuing is used up.
    OverBudget {
        generation: Generation,
        wait: Duration,
    },
    Recovered(Generation),
    /// Say when the next request is planned, or when the one in flight left.
    Planned(Moment),
    /// Report how late a request leaves.
    ActedLate(Duration),
    Say(Line),
    /// Tell the caller who waits for the first secret that there is one, or that the keeper starts without.
    Started,
    /// Tell the caller who waits that there is none.
    NotStarted,
    /// Tell the caller of the shut-down how it ended.
    Ended(Outcome),
}

/// An event of the secret's, for its listeners.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Told {
    Renewed { ttl: Duration, truncated: bool },
    Rejected { cause: ErrorKind },
    Revoked { alone: bool },
    NotRotated { overdue: Duration },
}

impl From<Told> for EventKind {
    fn from(told: Told) -> Self {
        match told {
            Told::Renewed { ttl, truncated } => Self::Renewed { ttl, truncated },
            Told::Rejected { cause } => Self::Rejected { cause },
            Told::Revoked { alone } => Self::Revoked { alone },
            Told::NotRotated { overdue } => Self::NotRotated { overdue },
        }
    }
}

/// A line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Issued { because: Option<super::reasons::Reason> },
    SameAgain { because: super::reasons::Reason },
    NotRotated { overdue: Duration },
    TokenSuperseded,
    FewUsesLeft,
    CannotBeRenewed,
    RenewalsDenied,
    MayHaveLeftALease,
    NotRenewedForDraining,
    EndedByItself(Generation),
    NotAllowedToRevoke,
    RevocationNeedsAnOperator { generation: Generation, wait: Duration },
    NotRevokedYet { generation: Generation, wait: Duration },
    StillInUseAtShutDown { generations: usize },
}

/// How a shut-down ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left.
    Clean,
    /// So many generations are left to end by themselves.
    Left(usize),
}
