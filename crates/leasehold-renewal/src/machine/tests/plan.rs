//! The plan of a world: everything in it that is random, as data that shrinks.

use std::time::Duration;

use leasehold_core::ErrorKind;
use proptest::prelude::*;

use crate::StartPolicy;

/// The facts that are fixed for a world.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) start: StartPolicy,
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
    pub(super) only_read: bool,
    pub(super) polled: bool,
    pub(super) endless: bool,
    /// For how long the server renews it.
    pub(super) renewals_for: Option<Duration>,
    pub(super) under: Under,
}

impl Setting {
    /// A lease of so many seconds that can be renewed, under no token.
    pub(super) fn plain(ttl: u64) -> Self {
        Self {
            start: StartPolicy::FailAtOnce,
            ttl: Duration::from_secs(ttl),
            renewable: true,
            only_read: false,
            polled: false,
            endless: false,
            renewals_for: None,
            under: Under::Nothing,
        }
    }
}

/// The token above.
#[derive(Clone, Copy, Debug)]
pub(super) enum Under {
    Nothing,
    /// A token that ends after so many seconds, and whether it cuts the leases under it.
    Token {
        seconds: u64,
        cuts: bool,
    },
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Happens {
    /// The machine is woken when it wants to be, or so much later.
    Wake {
        late: Duration,
    },
    /// A share of the time until the machine wants to be woken goes by.
    Time(f64),
    /// A request in flight is answered.
    Answer(Hand, Reply),
    Reject {
        cause: ErrorKind,
        older: bool,
    },
    Changed,
    TimeJumped,
    TokenSuperseded,
    TokenRenewed,
    FewUses,
    /// The last user of an old generation lets go of it.
    LetGo(usize),
    Stop(Duration),
    Unread,
    WaiterGone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    Issue,
    Renewal,
    Revocation,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reply {
    /// As asked; an issue is the same secret again where there is one.
    Done {
        same: bool,
    },
    /// A share of the time that was asked for.
    Truncated(f64),
    /// Carried out, and the answer lost.
    Lost,
    NotOurs,
    Fails(ErrorKind, Option<Duration>),
}

pub(super) fn any_kind() -> impl Strategy<Value = ErrorKind> {
    use ErrorKind::{
        Configuration, DatabaseFull, DeadToken, Denied, LeaseGone, LoginLapsed, LoginRefused, NotFound,
        NotRenewable, NotYet, RateLimited, RenewalFailed, Sealed, Unreachable,
    };
    prop::sample::select(vec![
        Unreachable,
        Sealed,
        RateLimited,
        DatabaseFull,
        RenewalFailed,
        Denied,
        DeadToken,
        LeaseGone,
        LoginRefused,
        LoginLapsed,
        NotFound,
        NotRenewable,
        NotYet,
        Configuration,
    ])
}

fn any_cause() -> impl Strategy<Value = ErrorKind> {
    prop::sample::select(vec![ErrorKind::CredentialsRefused, ErrorKind::DeadToken])
}

fn any_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        6 => prop::bool::weighted(0.2).prop_map(|same| Reply::Done { same }),
        2 => (0.0..1.0).prop_map(Reply::Truncated),
        1 => Just(Reply::Lost),
        1 => Just(Reply::NotOurs),
        5 => (any_kind(), prop::option::weighted(0.3, any_wait())).prop_map(|(kind, wait)| Reply::Fails(kind, wait)),
    ]
}

fn any_hand() -> impl Strategy<Value = Hand> {
    prop_oneof![3 => Just(Hand::Issue), 3 => Just(Hand::Renewal), 2 => Just(Hand::Revocation)]
}

fn any_wait() -> impl Strategy<Value = Duration> {
    prop_oneof![0..10_u64, 0..4000_u64, 1_000_000..400_000_000_u64].prop_map(Duration::from_millis)
}

/// An event that is no answer and ends nothing.
pub(super) fn any_news() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (any_cause(), prop::bool::weighted(0.2)).prop_map(|(cause, older)| Happens::Reject { cause, older }),
        2 => Just(Happens::Changed),
        1 => Just(Happens::TimeJumped),
        2 => (0..4_usize).prop_map(Happens::LetGo),
    ]
}

fn any_event() -> impl Strategy<Value = Happens> {
    prop_oneof![
        12 => prop_oneof![4 => Just(Duration::ZERO), 1 => any_wait()].prop_map(|late| Happens::Wake { late }),
        5 => (0.0..1.0).prop_map(Happens::Time),
        16 => (any_hand(), any_reply()).prop_map(|(hand, reply)| Happens::Answer(hand, reply)),
        8 => any_news(),
        1 => Just(Happens::TokenSuperseded),
        1 => Just(Happens::TokenRenewed),
        1 => Just(Happens::FewUses),
    ]
}

fn any_end() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => any_wait().prop_map(Happens::Stop),
        2 => Just(Happens::Unread),
        1 => Just(Happens::WaiterGone),
    ]
}

pub(super) fn any_setting() -> impl Strategy<Value = Setting> {
    let start = prop_oneof![
        Just(StartPolicy::FailAtOnce),
        Just(StartPolicy::Degraded),
        prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any_wait()].prop_map(StartPolicy::WaitUpTo),
    ];
    let under = prop_oneof![
        Just(Under::Nothing),
        (1..100_000_u64, prop::bool::ANY).prop_map(|(seconds, cuts)| Under::Token { seconds, cuts }),
    ];
    let ttl = prop_oneof![0..5_u64, 5..4000_u64, 4000..3_000_000_u64].prop_map(Duration::from_secs);
    let odd = prop_oneof![7 => Just((false, false, false)), 1 => Just((true, false, false)), 1 => Just((false, true, false)), 1 => Just((false, true, true))];
    let lapses = prop::option::weighted(0.2, any_wait());
    (start, ttl, prop::bool::weighted(0.8), odd, under, lapses).prop_map(
        |(start, ttl, renewable, (only_read, endless, polled), under, renewals_for)| Setting {
            start,
            ttl,
            renewable: renewable && !only_read && !endless,
            only_read,
            polled,
            endless,
            renewals_for,
            under,
        },
    )
}

/// The events of a world, and the draw of each step.
pub(super) fn any_plan(most: usize) -> impl Strategy<Value = (Setting, Vec<(Happens, f64)>)> {
    let before = prop::collection::vec((any_event(), 0.0..=1.0), 0..most);
    let end = prop::option::weighted(0.4, (any_end(), 0.0..=1.0));
    let after = prop::collection::vec((any_event(), 0.0..=1.0), 0..most / 3);
    // Most worlds come as far as a first secret.
    let first = prop_oneof![
        8 => Just(vec![(Happens::Answer(Hand::Issue, Reply::Done { same: false }), 0.5)]),
        1 => Just(Vec::new()),
    ];
    (any_setting(), first, before, end, after).prop_map(|(setting, mut all, before, end, after)| {
        all.extend(before);
        all.extend(end);
        all.extend(after);
        (setting, all)
    })
}
