//! The table of transitions, which is checked in: a changed transition is a changed line of it.

mod rows;
pub(super) mod words;

use std::{fmt::Write as _, path::Path, time::Duration};

use leasehold_core::{ErrorKind, Generation, Party};

use super::super::{Carried, Event, Failure, Granted, Moment, Phase, Seen, TokenState};
use rows::{NOW, Row, token};

/// Set to anything, it has the test write the table.
const WRITE: &str = "LEASEHOLD_WRITE_TRANSITIONS";

#[test]
fn the_table_of_transitions_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/machine/transitions.txt");
    let table = table();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = table.lines().zip(checked_in.lines()).position(|(is, was)| is != was);
    let line = differs.unwrap_or_else(|| table.lines().count().min(checked_in.lines().count())) + 1;
    let (is, was) = (table.lines().nth(line - 1), checked_in.lines().nth(line - 1));
    assert!(
        table == checked_in,
        "transitions.txt differs from line {line} on:\n  is  {is:?}\n  was {was:?}\nIf that is meant, run this test with {WRITE}=1."
    );
}

/// The names of the rows, in their order.
pub(super) fn row_names() -> impl Iterator<Item = String> {
    rows::all().into_iter().map(|row| row.name)
}

fn table() -> String {
    let mut table = HEAD.to_owned();
    for row in rows::all() {
        let _ = write!(table, "\n{}\n", row.name);
        let mut unmoved = Vec::new();
        for (name, commands, becomes) in row.cells() {
            match becomes {
                Some(becomes) => _ = writeln!(table, "    {name:<26} {commands:<52} {becomes}"),
                None if commands.is_empty() => unmoved.push(name),
                None => _ = writeln!(table, "    {name:<26} {commands:<52} as before"),
            }
        }
        if !unmoved.is_empty() {
            let _ = writeln!(table, "    nothing: {}", unmoved.join(", "));
        }
    }
    table
}

impl Row {
    /// Of each event that can come in this state: its name, the commands, and the state after it where that differs.
    fn cells(&self) -> Vec<(&'static str, String, Option<String>)> {
        let mut cells = Vec::new();
        let wake = self.machine.next_wake();
        if wake != Moment::NEVER && !self.machine.is_over() {
            cells.push(self.cell("woken when due", &Seen { now: wake, ..self.seen() }, Event::Wake));
        }
        for (name, event) in self.answers().into_iter().chain(news()) {
            cells.push(self.cell(name, &self.seen(), event));
        }
        if let Phase::Holding(_) = self.machine.phase {
            let superseded = Seen { token: Some(token(TokenState::Superseded)), ..self.seen() };
            cells.push(self.cell("token superseded", &superseded, Event::Wake));
            cells.push(self.cell("few uses left", &Seen { few_uses: true, ..self.seen() }, Event::Wake));
        }
        cells
    }

    fn cell(&self, name: &'static str, seen: &Seen, event: Event) -> (&'static str, String, Option<String>) {
        let mut machine = self.machine.clone();
        let commands = machine.step(seen, event);
        let moved = machine != self.machine;
        (name, words::commands(&commands), moved.then(|| words::state(&machine, seen.now)))
    }

    fn seen(&self) -> Seen {
        let holds = matches!(self.machine.phase, Phase::Holding(_));
        let token = holds.then(|| token(TokenState::Latest));
        Seen { now: NOW, draw: 0.5, token, few_uses: false, old_tokens: Vec::new() }
    }

    fn answers(&self) -> Vec<(&'static str, Event)> {
        use ErrorKind::{
            DeadToken, Denied, LeaseGone, LoginLapsed, LoginRefused, NotRenewable, RateLimited,
            RenewalFailed, Unreachable,
        };
        let hands = self.machine.hands;
        let mut answers = Vec::new();
        if let Some(asked) = hands.issuing {
            let id = asked.id;
            let grant = |same| Event::Granted {
                id,
                grant: Granted { terms: rows::terms(), same, token: Some(token(TokenState::Latest)) },
            };
            answers.push(("granted", grant(false)));
            answers.push(("the same again", grant(true)));
            answers.push(("issue unreachable", failed(id, Unreachable, Carried::No)));
            answers.push(("issue perhaps carried out", failed(id, Unreachable, Carried::Maybe)));
            answers.push(("issue rate limited", failed(id, RateLimited, Carried::No)));
            answers.push(("issue refused for good", failed(id, LoginRefused, Carried::No)));
        }
        if let Some(asked) = hands.renewing {
            let id = asked.id;
            answers.push(("renewed", Event::Renewed { id, ttl: rows::TTL }));
            answers.push(("renewed, truncated", Event::Renewed { id, ttl: rows::TTL / 2 }));
            answers.push(("renewal unreachable", failed(id, Unreachable, Carried::No)));
            answers.push(("renewal perhaps carried out", failed(id, Unreachable, Carried::Maybe)));
            answers.push(("renewal denied", failed(id, Denied, Carried::No)));
            answers.push(("renewal failed", failed(id, RenewalFailed, Carried::No)));
            answers.push(("not renewable", failed(id, NotRenewable, Carried::No)));
            answers.push(("lease gone", failed(id, LeaseGone, Carried::No)));
            answers.push(("login lapsed", failed(id, LoginLapsed, Carried::No)));
            answers.push(("token dead", failed(id, DeadToken, Carried::No)));
        }
        if let Some(asked) = hands.revoking {
            let id = asked.id;
            answers.push(("revoked", Event::Revoked { id, ours: true }));
            answers.push(("not ours to revoke", Event::Revoked { id, ours: false }));
            answers.push(("revocation unreachable", failed(id, Unreachable, Carried::Maybe)));
            answers.push(("revocation denied", failed(id, Denied, Carried::No)));
        }
        answers
    }
}

fn news() -> Vec<(&'static str, Event)> {
    let generation = rows::CURRENT;
    vec![
        ("refused by a user", Event::Rejected { generation, cause: ErrorKind::CredentialsRefused }),
        ("reported dead", Event::Rejected { generation, cause: ErrorKind::DeadToken }),
        ("changed", Event::Changed),
        ("time jumped", Event::TimeJumped),
        ("old one let go", Event::LetGo(Generation::new(1))),
        ("waiter gone", Event::WaiterGone),
        ("stop", Event::Stop { deadline: NOW + Duration::from_secs(10) }),
        ("unread", Event::Unread),
    ]
}

fn failed(id: super::super::Id, kind: ErrorKind, carried: Carried) -> Event {
    let retry_after = (kind == ErrorKind::RateLimited).then(|| Duration::from_secs(20));
    Event::Failed { id, failure: Failure { kind, party: Party::Vault, retry_after, carried } }
}

const HEAD: &str = "\
# What the keeper's machine does, by state and event. A test writes this file; see machine/tests/transitions.rs.
#
# A state is a phase, the strongest reason to replace, and the requests in flight. The secret has a TTL of 3600 s, was
# granted 100 s ago and is renewable; its token lives; one older generation is in use. A reason that holds is due in 60 s.
# Of each event: the commands, and the state that it leads to, with the next request and when it may leave.
";
