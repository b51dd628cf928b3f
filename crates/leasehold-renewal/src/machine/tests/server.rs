//! The server's side of a world: its answers, and the leases that may live there.

use std::time::Duration;

use leasehold_core::{ErrorKind, Generation, Party};

use super::{
    super::{
        Asked, AskedFor, Authority, Carried, Event, Failure, Granted, Id, Made, Moment, Terms, TokenCaps,
        TokenSeen, TokenState,
    },
    plan::Reply,
    world::World,
};

impl World {
    pub(super) fn may_live_until(&mut self, generation: Generation, end: Moment) {
        let known = self.truth.entry(generation).or_insert(end);
        *known = (*known).max(end);
    }

    pub(super) fn issued(&mut self, asked: Asked, reply: &Reply) -> Event {
        let id = asked.id;
        let share = match reply {
            Reply::Done { .. } => 1.0,
            Reply::Truncated(share) => *share,
            Reply::Lost | Reply::NotOurs | Reply::Fails(..) => return failed(id, reply),
        };
        let same = matches!(reply, Reply::Done { same: true }) && self.current().is_some();
        if let Some(token) =
            self.token.as_mut().filter(|token| token.state == TokenState::Superseded && !same)
        {
            *token = TokenSeen {
                generation: Generation::new(token.generation.number() + 1),
                end: self.now + Duration::from_secs(3600),
                state: TokenState::Latest,
                caps: token.caps,
            };
        }
        self.few_uses &= same;
        let setting = &self.setting;
        let rest = self.token.filter(|token| token.caps == TokenCaps::Cuts);
        let rest = rest.map_or(Duration::MAX, |token| asked.sent.until(token.end));
        let terms = Terms {
            ttl: (!setting.endless).then(|| setting.ttl.mul_f64(share).min(rest)),
            increment: setting.ttl,
            renewable: setting.renewable,
            renewals_for: setting.renewals_for,
            poll: setting.polled.then(|| Duration::from_secs(60)),
            made: if setting.only_read { Made::ByOthers } else { Made::ForUs },
            revoked_with: if setting.endless { Authority::Itself } else { Authority::TokenAbove },
        };
        let end = terms.ttl.map_or(Moment::NEVER, |ttl| asked.sent + ttl);
        let generation = if same { self.machine.last_generation } else { self.machine.last_generation + 1 };
        self.may_live_until(Generation::new(generation), end);
        Event::Granted { id, grant: Granted { terms, same, token: self.token } }
    }

    pub(super) fn renewed(&mut self, asked: AskedFor, reply: &Reply) -> Event {
        let ttl = match reply {
            Reply::Done { .. } => self.setting.ttl,
            Reply::Truncated(share) => self.setting.ttl.mul_f64(*share),
            Reply::Lost => {
                self.may_live_until(asked.generation, asked.sent + self.setting.ttl);
                return failed(asked.id, reply);
            }
            Reply::Fails(ErrorKind::LeaseGone, _) => {
                self.truth.insert(asked.generation, self.now);
                return failed(asked.id, reply);
            }
            Reply::NotOurs | Reply::Fails(..) => return failed(asked.id, reply),
        };
        // The server replaces the end: a renewal can shorten it.
        self.truth.insert(asked.generation, asked.sent + ttl);
        Event::Renewed { id: asked.id, ttl }
    }
}

pub(super) fn revoked(asked: AskedFor, reply: &Reply) -> Event {
    match reply {
        Reply::Done { .. } | Reply::Truncated(_) => Event::Revoked { id: asked.id, ours: true },
        Reply::NotOurs => Event::Revoked { id: asked.id, ours: false },
        Reply::Lost | Reply::Fails(..) => failed(asked.id, reply),
    }
}

pub(super) fn failed(id: Id, reply: &Reply) -> Event {
    let (kind, retry_after, carried) = match reply {
        Reply::Fails(kind, retry_after) => (*kind, *retry_after, Carried::No),
        _ => (ErrorKind::Unreachable, None, Carried::Maybe),
    };
    Event::Failed { id, failure: Failure { kind, party: Party::Vault, retry_after, carried } }
}
