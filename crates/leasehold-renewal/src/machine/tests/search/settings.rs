//! The settings that the search goes through, a space of states each, and where it begins in them.

use std::time::Duration;

use leasehold_core::ErrorKind;

use super::super::{
    plan::{Hand, Happens, Reply, Setting, Under},
    world::World,
};
use crate::StartPolicy;

const FOR_HALF_A_MINUTE: StartPolicy = StartPolicy::WaitUpTo(Duration::from_secs(30));
const GRANTED: Happens = Happens::Answer(Hand::Issue, Reply::Done { same: false });
const RENEWED: Happens = Happens::Answer(Hand::Renewal, Reply::Done { same: false });
const REFUSED: Happens = Happens::Reject { cause: ErrorKind::CredentialsRefused, older: false };
const WOKEN: Happens = Happens::Wake { late: Duration::ZERO };

/// Each with its name in the report.
pub(super) fn all() -> Vec<(&'static str, Setting)> {
    let plain = Setting::plain;
    let token = |seconds| Under::Token { seconds, cuts: false };
    let batch = |seconds| Under::Token { seconds, cuts: true };
    let for_good = |ttl| Setting { renewable: false, ..plain(ttl) };
    let endless = Setting { endless: true, ..for_good(0) };
    let lapses = Some(Duration::from_secs(20));
    vec![
        ("60 s", Setting { start: StartPolicy::Degraded, ..plain(60) }),
        ("10 s under a token", Setting { under: token(100), start: FOR_HALF_A_MINUTE, ..plain(10) }),
        ("60 s under a token that ends first", Setting { under: token(20), ..plain(60) }),
        ("6 s under a batch token", Setting { under: batch(20), ..plain(6) }),
        ("60 s, cut by a batch token", Setting { under: batch(20), ..plain(60) }),
        ("600 s under a token", Setting { under: token(3600), start: StartPolicy::Degraded, ..plain(600) }),
        ("10 s, not renewable", Setting { start: FOR_HALF_A_MINUTE, ..for_good(10) }),
        ("60 s, not renewable, cut by a batch token", Setting { under: batch(20), ..for_good(60) }),
        ("no time at all", Setting { start: StartPolicy::Degraded, ..plain(0) }),
        ("10 s, a login that lapses", Setting { renewals_for: lapses, ..plain(10) }),
        ("a static role of 10 s", Setting { only_read: true, under: token(100), ..for_good(10) }),
        ("an entry that is polled", Setting { polled: true, only_read: true, ..endless.clone() }),
        ("an entry under a token", Setting { only_read: true, under: token(100), ..endless.clone() }),
        ("endless", Setting { start: StartPolicy::WaitUpTo(Duration::ZERO), ..endless }),
    ]
}

/// The search begins at the start of the keeper, and also at places that are far from there.
pub(super) fn beginnings() -> Vec<Vec<Happens>> {
    let first = vec![GRANTED];
    let second = [&first[..], &[Happens::TokenSuperseded, WOKEN, GRANTED]].concat();
    let asked = [&second[..], &[REFUSED, WOKEN]].concat();
    let fails = |hand, kind| Happens::Answer(hand, Reply::Fails(kind, None));
    let renewal_fails = |kind| fails(Hand::Renewal, kind);
    // The server says that it lives, and it is refused again.
    let refused = [REFUSED, WOKEN, RENEWED, REFUSED, WOKEN];
    let issue_fails = fails(Hand::Issue, ErrorKind::Unreachable);
    let outage = [WOKEN, renewal_fails(ErrorKind::Unreachable), issue_fails];
    vec![
        Vec::new(),
        // Two that are still in use.
        [&second[..], &[Happens::FewUses, WOKEN, GRANTED]].concat(),
        // The first is to be renewed for the last time, and the server is asked about the second: it has gone, its login
        // has lapsed, or its token is dead.
        [&asked[..], &[renewal_fails(ErrorKind::LeaseGone), WOKEN, WOKEN]].concat(),
        [&asked[..], &[renewal_fails(ErrorKind::LoginLapsed), WOKEN, WOKEN]].concat(),
        [&asked[..], &[renewal_fails(ErrorKind::DeadToken), Happens::TokenSuperseded]].concat(),
        asked,
        // A grant that is cut short, and a question about it because time has jumped.
        vec![Happens::Answer(Hand::Issue, Reply::Truncated(0.5)), Happens::TimeJumped, WOKEN],
        // So many failures that no counter counts any further, at the start and later.
        [issue_fails, WOKEN].repeat(15),
        [&first[..], &outage.repeat(15)].concat(),
        // More were refused than the budget holds.
        [&first[..], &[&refused[..], &[GRANTED]].concat().repeat(12)[..]].concat(),
        // An issue is not answered: because the provider has another, of a truncated grant, or of a refused secret.
        [&first[..], &[Happens::Time(0.5), Happens::Changed, WOKEN]].concat(),
        [&first[..], &[WOKEN, Happens::Answer(Hand::Renewal, Reply::Truncated(0.5)), WOKEN]].concat(),
        [first, refused.to_vec()].concat(),
    ]
}

/// Brings a new world to a beginning, without a check.
pub(super) fn begin(setting: &Setting, beginning: &[Happens]) -> World {
    let mut world = World::new(setting, &mut |_| {});
    beginning.iter().for_each(|what| world.happens(what, 0.5, &mut |_| {}));
    world
}
