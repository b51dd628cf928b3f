//! Why a secret must be replaced while it still works.

use leasehold_core::clock::Moment;

/// A reason to replace the current secret, from the weakest to the strongest. Logs name the strongest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// A renewal granted less than was asked: max TTL is near. The replacement may wait.
    Truncated,
    /// A user reports that it is refused. The replacement may have to wait for its turn.
    Rejected,
    /// An issue was tried because renewals kept failing, and failed too.
    GaveUpRenewing,
    /// The server renews a token no more, because its login does not hold any longer.
    LoginLapsed,
    /// The provider has another.
    Changed,
    /// Few of its uses are left.
    UsedUp,
    /// The token above it has a successor.
    TokenSuperseded,
    /// A user was told by the server that it is no token.
    ReportedDead,
    /// The server says so to the keeper itself.
    FoundDead,
    /// The server says that the lease has ended.
    Gone,
}

impl Reason {
    pub(super) const ALL: [Self; 10] = [
        Self::Truncated,
        Self::Rejected,
        Self::GaveUpRenewing,
        Self::LoginLapsed,
        Self::Changed,
        Self::UsedUp,
        Self::TokenSuperseded,
        Self::ReportedDead,
        Self::FoundDead,
        Self::Gone,
    ];

    /// Whether a pool or a server may give this reason again and again, so that the issues it causes are counted.
    fn costs_budget(self) -> bool {
        matches!(self, Self::Rejected | Self::UsedUp | Self::ReportedDead | Self::FoundDead | Self::Gone)
    }
}

/// The reasons that hold, each with the moment from which it is to be acted on. A reason stays until an issue succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reasons([Moment; Reason::ALL.len()]);

impl Default for Reasons {
    fn default() -> Self {
        Self([Moment::NEVER; Reason::ALL.len()])
    }
}

impl Reasons {
    /// Adds a reason. Returns whether it is new; one that was there keeps its moment.
    pub(super) fn add(&mut self, reason: Reason, at: Moment) -> bool {
        let new = !self.has(reason);
        if new {
            self.0[reason as usize] = at;
        }
        new
    }

    /// Moves the moment of a reason that may wait.
    pub(super) fn postpone(&mut self, reason: Reason, at: Moment) {
        self.0[reason as usize] = at;
    }

    pub(super) fn has(&self, reason: Reason) -> bool {
        self.0[reason as usize] != Moment::NEVER
    }

    pub(super) fn has_any(&self, of: &[Reason]) -> bool {
        of.iter().any(|reason| self.has(*reason))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.highest().is_none()
    }

    /// Whether there is no reason but, perhaps, this one.
    pub(super) fn has_none_but(&self, reason: Reason) -> bool {
        self.iter().all(|(other, _)| other == reason)
    }

    /// Whether one of them cannot wait.
    pub(super) fn is_pressing(&self) -> bool {
        self.highest().is_some_and(|reason| reason > Reason::Rejected)
    }

    /// The strongest.
    pub(super) fn highest(&self) -> Option<Reason> {
        self.iter().map(|(reason, _)| reason).max()
    }

    pub(super) fn at(&self, reason: Reason) -> Option<Moment> {
        Some(self.0[reason as usize]).filter(|at| *at != Moment::NEVER)
    }

    /// Whether an issue for them counts against the budget: one reason that costs nothing makes it free.
    pub(super) fn cost_budget(&self) -> bool {
        !self.is_empty() && self.iter().all(|(reason, _)| reason.costs_budget())
    }

    /// When to act on the first of them. Those that cost budget wait until it can be `afforded`.
    pub(super) fn due(&self, afforded: Moment) -> Option<Moment> {
        self.iter().map(|(reason, at)| if reason.costs_budget() { at.max(afforded) } else { at }).min()
    }

    fn iter(&self) -> impl Iterator<Item = (Reason, Moment)> {
        Reason::ALL.into_iter().zip(self.0).filter(|(_, at)| *at != Moment::NEVER)
    }
}

#[cfg(test)]
impl Reasons {
    pub(super) fn canonical(&mut self, canon: &mut crate::canonical::Canon) {
        self.0.iter_mut().for_each(|at| canon.moment(at));
    }
}
