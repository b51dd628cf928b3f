//! A world as data: its settings, and what happens in it. A run that failed is kept as one of these.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The meaning of the fields below. A plan of another version is not run.
    pub(crate) version: u32,
    /// Of the streams that are drawn while it runs.
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    pub(crate) faults: Vec<Fault>,
    /// The finding that this plan shows, if it was kept for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finding: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// For how long faults may come.
    pub(crate) storm_s: u64,
    pub(crate) login: Login,
    pub(crate) roles: Vec<Role>,
    pub(crate) drain_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) ttl_s: u64,
    pub(crate) max_ttl_s: u64,
    pub(crate) kind: TokenKind,
    /// For how long the server renews a token before it wants another JWT.
    pub(crate) jwt_s: Option<u64>,
    /// How often a token may be used, if not without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uses: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TokenKind {
    Service,
    /// Each renewal gives the whole TTL again, without an end.
    Periodic,
    Batch,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) made: Made,
    pub(crate) pools: Vec<Pool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Made {
    Dynamic { ttl_s: u64, max_ttl_s: u64, renewable: bool, first_ttl_s: Option<u64> },
    Static { period_s: u64 },
}

impl Made {
    /// For how long a secret of this role is good, in seconds.
    pub(crate) fn life_s(self) -> u64 {
        match self {
            Self::Dynamic { ttl_s, .. } => ttl_s,
            Self::Static { period_s } => period_s,
        }
    }
}

impl Settings {
    pub(crate) fn shortest_life_s(&self) -> u64 {
        self.roles.iter().map(|role| role.made.life_s()).min().unwrap_or(60)
    }

    pub(crate) fn longest_life_s(&self) -> u64 {
        self.roles.iter().map(|role| role.made.life_s()).max().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) size: usize,
    pub(crate) callers: usize,
    /// The mean time between a caller's queries.
    pub(crate) think_ms: u64,
    /// The longest time that a caller keeps a connection.
    pub(crate) hold_ms: u64,
    pub(crate) ask_every_ms: Option<u64>,
    pub(crate) terminate: bool,
    pub(crate) saturable: bool,
}

/// Something that happens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) at_ms: u64,
    pub(crate) for_ms: u64,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum What {
    /// Nobody listens at the server's address.
    Refused,
    /// This share of requests is lost on the way there.
    RequestsLost { share: f64 },
    /// This share of answers is lost after the request was carried out.
    AnswersLost { share: f64 },
    /// This share of answers is cut in the middle, after the request was carried out.
    AnswersCut { share: f64 },
    /// Nothing is answered.
    Hangs,
    /// Answers take so long, each before or after it was carried out.
    Slow { millis: u64 },
    /// The server answers every request with this status, and carries none out.
    Fails { status: u16, retry_after_s: Option<u64> },
    /// 429 to logins and issues.
    Limited { retry_after_s: Option<u64> },
    /// A mesh in front answers 403 with a page of its own.
    Mesh,
    /// A cache in front answers reads of credentials with what it has.
    Cache,
    /// Half of the reads are answered by a standby that is so far behind.
    StandbyLags { millis: u64 },
    /// The server is restored from a backup that is so old: it forgets the tokens and leases made since. Their users live on.
    Restored { age_s: u64 },
    /// The database is a replica that is so far behind: it does not know a user before that.
    ReplicaLags { millis: u64 },
    /// The policy lacks renewals.
    RenewalsDenied,
    /// The policy lacks revocations.
    RevocationsDenied,
    /// Logins are answered with "permission denied", since the server cannot have JWTs checked.
    LoginsDoubtful,
    /// An operator revokes the lease in use of one role.
    LeaseRevoked { role: usize },
    /// An operator revokes the token in use, and with it every lease under it.
    TokenRevoked,
    /// The role is edited: its TTL from now on.
    RoleEdited { role: usize, ttl_s: u64, renewable: bool },
    /// The host sleeps and notices it; or, if it is not noticed, the process stands still.
    Suspended { noticed: bool },
    /// The wall clock is stepped each second.
    WallClockSteps,
    /// The server's database engine, and everybody else, cannot reach the database.
    DatabaseDown,
    /// Others hold all of the database's connections.
    DatabaseFull,
    /// Somebody drops the user in use of one role.
    UserDropped { role: usize },
    /// Every open session is cut.
    SessionsCut,
    /// Handshakes take so long, and so do the answers to questions.
    HandshakesSlow { millis: u64 },
    /// The source of the JWT says that it has another, again and again.
    SourceFlaps,
    /// Users report the generation in use, and those before it, as refused.
    Rejections { role: usize },
    /// A static role is no longer rotated.
    RotationStops { role: usize },
    /// An operator rotates a static role.
    RotatedByHand { role: usize },
    /// Callers keep each connection for as long as the fault lasts.
    CallersHold,
    /// The service shuts down, and starts again.
    Restart,
}

impl What {
    /// The kind of fault, for counting.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::RequestsLost { .. } => "requests lost",
            Self::AnswersLost { .. } => "answers lost",
            Self::AnswersCut { .. } => "answers cut",
            Self::Hangs => "hangs",
            Self::Slow { .. } => "slow",
            Self::Fails { .. } => "fails",
            Self::Limited { .. } => "limited",
            Self::Mesh => "mesh",
            Self::Cache => "cache",
            Self::StandbyLags { .. } => "standby lags",
            Self::Restored { .. } => "restored",
            Self::ReplicaLags { .. } => "replica lags",
            Self::RenewalsDenied => "renewals denied",
            Self::RevocationsDenied => "revocations denied",
            Self::LoginsDoubtful => "logins doubtful",
            Self::LeaseRevoked { .. } => "lease revoked",
            Self::TokenRevoked => "token revoked",
            Self::RoleEdited { .. } => "role edited",
            Self::Suspended { .. } => "suspended",
            Self::WallClockSteps => "wall clock steps",
            Self::DatabaseDown => "database down",
            Self::DatabaseFull => "database full",
            Self::UserDropped { .. } => "user dropped",
            Self::SessionsCut => "sessions cut",
            Self::HandshakesSlow { .. } => "handshakes slow",
            Self::SourceFlaps => "source flaps",
            Self::Rejections { .. } => "rejections",
            Self::RotationStops { .. } => "rotation stops",
            Self::RotatedByHand { .. } => "rotated by hand",
            Self::CallersHold => "callers hold",
            Self::Restart => "restart",
        }
    }
}

pub(crate) const VERSION: u32 = 1;
