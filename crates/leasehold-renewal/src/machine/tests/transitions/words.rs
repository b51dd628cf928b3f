//! Short words for commands and states.

use std::time::Duration;

use leasehold_core::{EventKind, Generation};

use super::super::super::{
    Command, Line, Machine, Moment, Outcome, Phase, event::Told, holding::Doubt, schedule::Step,
};

/// The words of a variant's name.
pub(in super::super) fn reason(name: &str) -> String {
    match name {
        "gaveuprenewing" => "gave up renewing".to_owned(),
        "loginlapsed" => "login lapsed".to_owned(),
        "usedup" => "used up".to_owned(),
        "tokensuperseded" => "token superseded".to_owned(),
        "reporteddead" => "reported dead".to_owned(),
        "founddead" => "found dead".to_owned(),
        other => other.to_owned(),
    }
}

pub(super) fn commands(commands: &[Command]) -> String {
    commands.iter().filter_map(command).collect::<Vec<_>>().join(", ")
}

fn of(generation: Generation) -> u64 {
    generation.number()
}

/// The line that announces a plan is left out: the state tells the same.
fn command(command: &Command) -> Option<String> {
    Some(match command {
        Command::Planned(_) | Command::ActedLate(_) => return None,
        Command::Issue(_) => "issue".to_owned(),
        Command::Renew { generation, .. } => format!("renew {}", of(*generation)),
        Command::Revoke { generation, .. } => format!("revoke {}", of(*generation)),
        Command::Abandon(id) => match id.0 {
            3 => "give the renewal up".to_owned(),
            _ => "give the revocation up".to_owned(),
        },
        Command::Publish { generation, .. } => format!("publish {}", of(*generation)),
        Command::Extend { .. } => "extend".to_owned(),
        Command::SetAside { generation, .. } => format!("set {} aside", of(*generation)),
        Command::MoveEnd { generation, .. } => format!("move the end of {}", of(*generation)),
        Command::PresumeDead(generation) => format!("presume {} dead", of(*generation)),
        Command::Close => "close".to_owned(),
        Command::Forget(generation) => format!("forget {}", of(*generation)),
        Command::Tell(generation, told) => format!("tell: {} {}", of(*generation), tell(*told)),
        Command::Failed { grave, .. } => {
            if *grave { "report the grave failure" } else { "report the failure" }.to_owned()
        }
        Command::OverBudget { .. } => "report the budget".to_owned(),
        Command::Recovered(_) => "report success".to_owned(),
        Command::Say(line) => format!("say: {}", say(*line)),
        Command::Started => "started".to_owned(),
        Command::NotStarted => "not started".to_owned(),
        Command::Ended(Outcome::Clean) => "ended clean".to_owned(),
        Command::Ended(Outcome::Left(left)) => format!("ended, {left} left"),
    })
}

fn tell(told: Told) -> String {
    match EventKind::from(told) {
        EventKind::Renewed { truncated: true, .. } => "renewed, truncated".to_owned(),
        EventKind::Renewed { .. } => "renewed".to_owned(),
        EventKind::Rejected { .. } => "rejected".to_owned(),
        EventKind::Revoked { alone: true } => "revoked".to_owned(),
        EventKind::Revoked { alone: false } => "left to its token".to_owned(),
        other => format!("{other:?}"),
    }
}

fn say(line: Line) -> String {
    match line {
        Line::Issued { because: Some(because) } => {
            format!("issued because {}", reason(&format!("{because:?}").to_lowercase()))
        }
        Line::Issued { because: None } => "issued".to_owned(),
        Line::SameAgain { .. } => "no successor".to_owned(),
        Line::TokenSuperseded => "token superseded".to_owned(),
        Line::FewUsesLeft => "few uses".to_owned(),
        Line::CannotBeRenewed => "cannot be renewed".to_owned(),
        Line::RenewalsDenied => "renewals denied".to_owned(),
        Line::MayHaveLeftALease => "may have left a lease".to_owned(),
        Line::NotRenewedForDraining => "not renewed for draining".to_owned(),
        Line::EndedByItself(generation) => format!("{} ended by itself", of(generation)),
        Line::NotAllowedToRevoke => "may not revoke".to_owned(),
        Line::RevocationNeedsAnOperator { .. } => "revocation needs an operator".to_owned(),
        Line::NotRevokedYet { .. } => "not revoked yet".to_owned(),
        Line::StillInUseAtShutDown { .. } => "still in use".to_owned(),
        Line::NotRotated { .. } => "not rotated".to_owned(),
    }
}

/// The state, and the next request with the time until it may leave.
pub(super) fn state(machine: &Machine, now: Moment) -> String {
    let mut words = vec![phase(machine)];
    let hands = machine.hands;
    let flights = [
        hands.issuing.map(|_| "issuing".to_owned()),
        hands.renewing.map(|asked| format!("renewing {}", of(asked.generation))),
        hands.revoking.map(|asked| format!("revoking {}", of(asked.generation))),
    ];
    words.extend(flights.into_iter().flatten());
    if !machine.old.is_empty() {
        let old: Vec<_> = machine
            .old
            .iter()
            .map(|old| format!("{}{}", of(old.generation), if old.is_due() { " due" } else { "" }))
            .collect();
        words.push(format!("old: {}", old.join(" ")));
    }
    words.push(next(machine, now));
    words.join("; ")
}

fn next(machine: &Machine, now: Moment) -> String {
    let wake = machine.next_wake();
    let request = machine.next_request().filter(|(at, _)| *at == wake).map(|(_, step)| match step {
        Step::Renew => "renew",
        Step::Issue => "issue",
        Step::Look => "look",
    });
    match wake {
        Moment::NEVER => "waits for an event".to_owned(),
        _ => format!("{} in {}", request.unwrap_or("wake"), short(now.until(wake))),
    }
}

fn short(wait: Duration) -> String {
    let millis = wait.as_millis();
    if millis < 1000 { format!("{millis} ms") } else { format!("{} s", millis / 1000) }
}

fn phase(machine: &Machine) -> String {
    match &machine.phase {
        Phase::Starting(_) => "starting".to_owned(),
        Phase::Holding(holding) => {
            let mut words = format!("holding {}", of(holding.generation));
            if let Some(highest) = holding.reasons.highest() {
                words.push_str(", ");
                words.push_str(&reason(&format!("{highest:?}").to_lowercase()));
            }
            match holding.doubt {
                Some(Doubt::Refused { .. }) => words.push_str(", in doubt: refused"),
                Some(Doubt::TimeJumped { .. }) => words.push_str(", in doubt: time jumped"),
                None => {}
            }
            if let Some(trouble) = holding.trouble {
                words.push_str(&format!(", {} failed", trouble.count));
            }
            words
        }
        Phase::Ending(_) => "ending".to_owned(),
        Phase::Over => "over".to_owned(),
    }
}
