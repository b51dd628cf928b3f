//! The rows of the table of transitions, as places in which a state can be.

use super::super::{
    super::{Machine, Phase, holding::Doubt, reasons::Reason},
    transitions::words,
};

/// The row of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Starting { issuing: bool },
    Holding { because: Because, issuing: bool, renewing: bool },
    Revoking,
    Ending { issuing: bool, revoking: bool },
    Waiting,
    Over,
}

/// The strongest reason to replace the secret, or the doubt where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Because {
    Nothing,
    Refused,
    TimeJumped,
    Reason(Reason),
}

impl Place {
    pub(super) fn of(machine: &Machine) -> Self {
        let hands = machine.hands;
        let (issuing, renewing) = (hands.issuing.is_some(), hands.renewing.is_some());
        let revoking = hands.revoking.is_some();
        match &machine.phase {
            Phase::Starting(_) => Self::Starting { issuing },
            Phase::Holding(holding) => {
                let because = match (holding.reasons.highest(), holding.doubt) {
                    (Some(reason), _) => Because::Reason(reason),
                    (None, Some(Doubt::Refused { .. })) => Because::Refused,
                    (None, Some(Doubt::TimeJumped { .. })) => Because::TimeJumped,
                    (None, None) => Because::Nothing,
                };
                if revoking && because == Because::Nothing && !issuing && !renewing {
                    return Self::Revoking;
                }
                Self::Holding { because, issuing, renewing }
            }
            Phase::Ending(ending)
                if issuing && ending.waits_for_an_issue_alone() && machine.old.is_empty() =>
            {
                Self::Waiting
            }
            Phase::Ending(_) => Self::Ending { issuing, revoking },
            Phase::Over => Self::Over,
        }
    }

    /// Its name in the table.
    pub(super) fn name(self) -> String {
        match self {
            Self::Starting { issuing } => {
                format!("STARTING, {}", if issuing { "issuing" } else { "waiting" })
            }
            Self::Holding { because, issuing, renewing } => {
                let because = match because {
                    Because::Nothing => "no reason".to_owned(),
                    Because::Refused => "in doubt: refused".to_owned(),
                    Because::TimeJumped => "in doubt: time jumped".to_owned(),
                    Because::Reason(reason) => words::reason(&format!("{reason:?}").to_lowercase()),
                };
                format!("HOLDING, {because}, {}", flight(issuing, "renewing", renewing))
            }
            Self::Revoking => "HOLDING, no reason, revoking".to_owned(),
            Self::Ending { issuing, revoking } => {
                format!("ENDING, in use, {}", flight(issuing, "revoking", revoking))
            }
            Self::Waiting => "ENDING, nothing left but an issue".to_owned(),
            Self::Over => "OVER".to_owned(),
        }
    }
}

fn flight(issuing: bool, other: &str, is_other: bool) -> String {
    match (issuing, is_other) {
        (false, false) => "nothing in flight".to_owned(),
        (true, false) => "issuing".to_owned(),
        (false, true) => other.to_owned(),
        (true, true) => format!("issuing and {other}"),
    }
}
