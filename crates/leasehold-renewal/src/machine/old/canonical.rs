//! The canonical form of what is left of old generations.

use leasehold_core::Generation;

use super::{Old, OldState, PolicyOf, Revoker};
use crate::canonical::Canon;

impl Old {
    pub(in super::super) fn canonical(&mut self, canon: &mut Canon) {
        let Self { generation, end, usable_until, may_end, increment, policy, state } = self;
        canon.generation(generation);
        [end, usable_until, may_end].into_iter().for_each(|moment| canon.moment(moment));
        canon.plain((*increment, std::mem::discriminant(state)));
        policy.canonical(canon);
        match state {
            OldState::InUse { last_renewal } => canon.plain(std::mem::discriminant(last_renewal)),
            OldState::Due { at, failures } => {
                canon.moment(at);
                // Eleven times doubled, the wait is as long as it gets.
                canon.count(failures, 11);
            }
        }
    }

    /// The token whose policy decides about it.
    pub(in super::super) fn token(&self) -> Option<Generation> {
        self.policy.token()
    }
}

impl Revoker {
    pub(in super::super) fn canonical(&mut self, canon: &mut Canon) {
        let Self { forbidden, said } = self;
        // A policy of a token that has gone forbids nothing any more.
        *forbidden = forbidden.filter(|(policy, until)| {
            canon.is_ahead(*until)
                && match policy {
                    PolicyOf::Token(generation) => canon.speaks_of(*generation),
                    PolicyOf::TokenAbove(token) => token.is_none_or(|token| canon.speaks_of_token(token)),
                }
        });
        canon.plain((std::mem::discriminant(said), forbidden.is_some()));
        if let Some((policy, until)) = forbidden {
            policy.canonical(canon);
            canon.moment(until);
        }
    }
}

impl PolicyOf {
    fn token(self) -> Option<Generation> {
        match self {
            Self::Token(_) => None,
            Self::TokenAbove(token) => token,
        }
    }

    fn canonical(&mut self, canon: &mut Canon) {
        canon.plain(std::mem::discriminant(self));
        match self {
            Self::Token(generation) => canon.generation(generation),
            Self::TokenAbove(token) => {
                canon.plain(token.is_some());
                token.iter_mut().for_each(|token| canon.token(token));
            }
        }
    }
}
