//! The states of the table.

use std::time::Duration;

use leasehold_core::Generation;

use super::super::super::{
    Asked, AskedFor, Authority, Granted, Hands, Id, Machine, Made, Moment, Pace, Phase, Rules, Seen, Terms,
    TokenCaps, TokenSeen, TokenState,
    ending::Ending,
    holding::{Doubt, Holding},
    old::Old,
    reasons::Reason,
};
use crate::{StartPolicy, budget::Budget};

pub(super) struct Row {
    pub(super) name: String,
    pub(super) machine: Machine,
}

pub(super) const TTL: Duration = Duration::from_secs(3600);
pub(super) const GRANTED: Moment = Moment::from_nanos(1_000_000_000_000);
pub(super) const NOW: Moment = Moment::from_nanos(1_100_000_000_000);
pub(super) const CURRENT: Generation = Generation::new(2);

pub(super) fn terms() -> Terms {
    Terms {
        ttl: Some(TTL),
        increment: TTL,
        renewable: true,
        poll: None,
        renewals_for: None,
        made: Made::ForUs,
        revoked_with: Authority::TokenAbove,
    }
}

pub(super) fn token(state: TokenState) -> TokenSeen {
    let end = GRANTED + Duration::from_secs(86_400);
    TokenSeen { generation: Generation::new(1), end, state, caps: TokenCaps::Leaves }
}

/// The requests that may be in flight beside each other.
const FLIGHTS: [(&str, bool, bool); 4] = [
    ("nothing in flight", false, false),
    ("renewing", false, true),
    ("issuing", true, false),
    ("issuing and renewing", true, true),
];

pub(super) fn all() -> Vec<Row> {
    let mut rows = vec![
        Row { name: "STARTING, issuing".to_owned(), machine: starting(true) },
        Row { name: "STARTING, waiting".to_owned(), machine: starting(false) },
    ];
    for (flight, is_issuing, is_renewing) in FLIGHTS {
        rows.push(holding("no reason", flight, is_issuing, is_renewing, |_| {}));
    }
    for (name, doubt) in [("in doubt: refused", false), ("in doubt: time jumped", true)] {
        for (flight, is_issuing, is_renewing) in FLIGHTS {
            rows.push(holding(name, flight, is_issuing, is_renewing, |holding| {
                let at = NOW + Duration::from_millis(10);
                holding.doubt = Some(if doubt { Doubt::TimeJumped { at } } else { Doubt::Refused { at } });
            }));
        }
    }
    for reason in Reason::ALL {
        let name = format!("{reason:?}").to_lowercase();
        let name = super::words::reason(&name);
        for (flight, is_issuing, is_renewing) in FLIGHTS {
            rows.push(holding(&name, flight, is_issuing, is_renewing, |holding| {
                holding.reasons.add(reason, NOW + Duration::from_secs(60));
            }));
        }
    }
    rows.push(revoking());
    rows.extend(endings());
    rows
}

fn fresh() -> Machine {
    let rules = Rules {
        drain_budget: Duration::from_secs(60),
        shutdown_bound: Duration::from_secs(10),
        start: StartPolicy::WaitUpTo(Duration::from_secs(600)),
    };
    let pace = Pace::new(Budget::new(None, Some(TTL)), GRANTED);
    let seen = Seen { now: GRANTED, draw: 0.5, token: None, few_uses: false, old_tokens: Vec::new() };
    Machine::start(rules, pace, &seen).0
}

fn starting(is_issuing: bool) -> Machine {
    let mut machine = fresh();
    if !is_issuing {
        let event = super::failed(Id(1), leasehold_core::ErrorKind::RateLimited, super::Carried::No);
        let seen = Seen { now: NOW, draw: 0.5, token: None, few_uses: false, old_tokens: Vec::new() };
        machine.step(&seen, event);
    }
    machine
}

/// A machine that holds the second generation, and whose first is in use.
fn held() -> Machine {
    let mut machine = fresh();
    let granted = Granted { terms: terms(), same: false, token: Some(token(TokenState::Latest)) };
    let before = Holding::new(Generation::new(1), granted, GRANTED, 0.5);
    let current = Holding::new(CURRENT, granted, GRANTED, 0.5);
    machine.old = vec![Old::in_use(&before)];
    machine.phase = Phase::Holding(current);
    machine.hands = Hands::default();
    (machine.last_id, machine.last_generation) = (1, 2);
    machine
}

fn holding(
    what: &str,
    flight: &str,
    is_issuing: bool,
    is_renewing: bool,
    change: impl FnOnce(&mut Holding),
) -> Row {
    let mut machine = held();
    if let Phase::Holding(holding) = &mut machine.phase {
        change(holding);
    }
    let sent = NOW.earlier(Duration::from_millis(100));
    if is_issuing {
        machine.hands.issuing = Some(Asked { id: Id(2), sent });
    }
    if is_renewing {
        machine.hands.renewing = Some(AskedFor { id: Id(3), sent, generation: CURRENT });
    }
    machine.last_id = 3;
    if is_issuing || is_renewing {
        machine.pace.last_request = sent;
    }
    Row { name: format!("HOLDING, {what}, {flight}"), machine: settled(machine) }
}

/// The planned moment was told before.
fn settled(mut machine: Machine) -> Machine {
    let holds = matches!(machine.phase, Phase::Holding(_));
    let token = holds.then(|| token(TokenState::Latest));
    let seen = Seen { now: NOW, draw: 0.5, token, few_uses: false, old_tokens: Vec::new() };
    machine.step(&seen, super::Event::Wake);
    machine
}

fn step(machine: &mut Machine, event: super::Event) {
    let holds = matches!(machine.phase, Phase::Holding(_));
    let token = holds.then(|| token(TokenState::Latest));
    machine.step(&Seen { now: NOW, draw: 0.5, token, few_uses: false, old_tokens: Vec::new() }, event);
}

fn revoking() -> Row {
    let mut machine = settled(held());
    step(&mut machine, super::Event::LetGo(Generation::new(1)));
    Row { name: "HOLDING, no reason, revoking".to_owned(), machine }
}

fn endings() -> Vec<Row> {
    let ended = |change: fn(&mut Machine)| {
        let mut machine = settled(held());
        change(&mut machine);
        step(&mut machine, super::Event::Stop { deadline: NOW + Duration::from_secs(10) });
        machine
    };
    let idle = ended(|_| {});
    let issuing = ended(|machine| machine.hands.issuing = Some(Asked { id: Id(2), sent: NOW }));
    let mut revoking = idle.clone();
    step(&mut revoking, super::Event::LetGo(CURRENT));
    let mut both = issuing.clone();
    step(&mut both, super::Event::LetGo(CURRENT));
    let mut late = fresh();
    late.phase = Phase::Ending(Ending::of_a_late_issue());
    let mut over = fresh();
    over.phase = Phase::Over;
    over.hands = Hands::default();
    [
        ("ENDING, in use, nothing in flight", idle),
        ("ENDING, in use, issuing", issuing),
        ("ENDING, in use, revoking", revoking),
        ("ENDING, in use, issuing and revoking", both),
        ("ENDING, nothing left but an issue", late),
        ("OVER", over),
    ]
    .map(|(name, machine)| Row { name: name.to_owned(), machine })
    .into()
}
