//! The canonical form of a world. Its setting is left out, because each search keeps to one.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::discriminant,
    time::Duration,
};

use leasehold_core::Generation;

use super::super::{
    super::{
        Hands, Id, Machine, Made, Moment, Old, Pace, Phase, TokenSeen,
        holding::{Doubt, Grant, Holding, Trouble},
        pace::SPACING,
    },
    facts::Facts,
    world::World,
};
use crate::canonical::{Canon, HORIZON};

impl World {
    /// Brings it to its canonical form. Returns its key.
    pub(super) fn canonical(&mut self) -> u128 {
        let mut canon = Canon::new(self.now, self.live(), self.tokens());
        let Self { machine, now, setting: _, token, few_uses, truth, seen } = self;
        let in_flight = flying(machine.hands);
        truth_canonical(truth, &mut canon);
        seen.canonical(&in_flight, &mut canon);
        machine.canonical(*now, &mut canon);
        *now = Canon::NOW;
        token_canonical(token, &mut canon);
        canon.plain(*few_uses);
        canon.key()
    }

    /// The generations that the machine may still speak of.
    fn live(&self) -> Vec<Generation> {
        self.machine.old.iter().map(|old| old.generation).chain(self.current()).collect()
    }

    fn tokens(&self) -> Vec<Generation> {
        let held = match &self.machine.phase {
            Phase::Holding(holding) => holding.token,
            _ => None,
        };
        let above = [self.token, held].into_iter().flatten().map(|token| token.generation);
        above.chain(self.machine.old.iter().filter_map(Old::token)).collect()
    }
}

/// The ids in flight, and their canonical ones.
fn flying(hands: Hands) -> Vec<(u32, u32)> {
    let ids = [
        hands.issuing.map(|asked| asked.id),
        hands.renewing.map(|asked| asked.id),
        hands.revoking.map(|asked| asked.id),
    ];
    ids.into_iter().zip(1..).filter_map(|(id, canonical)| Some((id?.0, canonical))).collect()
}

fn truth_canonical(truth: &mut BTreeMap<Generation, Moment>, canon: &mut Canon) {
    let known = std::mem::take(truth).into_iter().filter(|(generation, _)| canon.speaks_of(*generation));
    for (mut generation, mut end) in known.collect::<Vec<_>>() {
        canon.generation(&mut generation);
        canon.moment(&mut end);
        truth.insert(generation, end);
    }
}

fn generations_canonical(of: &mut BTreeSet<Generation>, canon: &mut Canon) {
    let live = std::mem::take(of).into_iter().filter(|generation| canon.speaks_of(*generation));
    for mut generation in live.collect::<Vec<_>>() {
        canon.generation(&mut generation);
        of.insert(generation);
    }
    canon.plain(of.len());
}

fn token_canonical(token: &mut Option<TokenSeen>, canon: &mut Canon) {
    canon.plain(token.is_some());
    if let Some(TokenSeen { generation, end, state, caps }) = token {
        canon.token(generation);
        canon.moment(end);
        canon.plain((discriminant(state), discriminant(caps)));
    }
}

impl Facts {
    fn canonical(&mut self, in_flight: &[(u32, u32)], canon: &mut Canon) {
        let Self {
            bounds,
            set_aside_at,
            let_go,
            set_aside,
            forgotten,
            published,
            last_request,
            last_id,
            users_until,
            deadline,
        } = self;
        let known = std::mem::take(bounds);
        for (id, canonical) in in_flight {
            if let Some(mut bound) = known.get(id).copied() {
                canon.moment(&mut bound);
                bounds.insert(*canonical, bound);
            }
        }
        // A grant that was lost at the end is in no place. The check counts those, and so does this.
        let lost = published.union(set_aside).filter(|of| !canon.speaks_of(**of) && !forgotten.contains(of));
        let lost = lost.count();
        canon.plain(lost > 0);
        for of in [let_go, set_aside, forgotten, &mut *published] {
            generations_canonical(of, canon);
        }
        if lost > 0 {
            published.insert(LOST);
        }
        for (moment, horizon) in
            [(set_aside_at, None), (last_request, Some(SPACING)), (users_until, None), (deadline, None)]
        {
            canon.plain(moment.is_some());
            moment.iter_mut().for_each(|moment| match horizon {
                Some(horizon) => canon.moment_within(moment, horizon),
                None => canon.moment(moment),
            });
        }
        *last_id = LAST_ID;
    }
}

impl Machine {
    fn canonical(&mut self, now: Moment, canon: &mut Canon) {
        let Self { phase, old, revoker, hands, pace, rules: _, last_id, last_generation, planned } = self;
        canon.plain((discriminant(phase), old.len()));
        match phase {
            Phase::Starting(starting) => starting.canonical(canon),
            Phase::Holding(holding) => holding.canonical(canon),
            Phase::Ending(ending) => ending.canonical(canon),
            Phase::Over => {}
        }
        old.iter_mut().for_each(|old| old.canonical(canon));
        revoker.canonical(canon);
        hands.canonical(canon);
        pace.canonical(now, canon);
        *last_id = LAST_ID;
        *last_generation = canon.last_generation();
        canon.moment(planned);
    }
}

impl Hands {
    fn canonical(&mut self, canon: &mut Canon) {
        let Self { issuing, renewing, revoking } = self;
        canon.plain((issuing.is_some(), renewing.is_some(), revoking.is_some()));
        if let Some(asked) = issuing {
            asked.id = Id(1);
            canon.moment(&mut asked.sent);
        }
        for (asked, id) in [(renewing, 2), (revoking, 3)] {
            if let Some(asked) = asked {
                asked.id = Id(id);
                canon.moment(&mut asked.sent);
                canon.generation(&mut asked.generation);
            }
        }
    }
}

impl Pace {
    fn canonical(&mut self, now: Moment, canon: &mut Canon) {
        let Self { last_request, changes, rejections, budget, next_look, over_budget, renewals } = self;
        canon.moment_within(last_request, SPACING);
        if changes.are_forgotten(now) {
            (changes.pause, changes.in_a_row) = (Duration::ZERO, 0);
        }
        canon.moment(&mut changes.from);
        canon.plain(changes.pause);
        canon.count(&mut changes.in_a_row, 11);
        canon.plain(discriminant(&changes.heard));
        canon.moment_within(next_look, Duration::ZERO);
        canon.plain((discriminant(over_budget), discriminant(renewals)));
        rejections.canonical(now, canon);
        budget.canonical(canon);
    }
}

impl Holding {
    fn canonical(&mut self, canon: &mut Canon) {
        let Self {
            generation,
            issued_at,
            terms,
            grant: Grant { sent, ttl, end, spread },
            renewal,
            may_end,
            token,
            doubt,
            reasons,
            trouble,
            same_again,
            rotates_at,
            told_not_rotated,
            asked_at,
            looked_at,
            draw,
        } = self;
        canon.generation(generation);
        if terms.made == Made::ForUs {
            *rotates_at = Moment::NEVER;
        }
        // Where only the token ends, the secret's age is a part of the plan, however old it is.
        canon.moment_within(sent, if ttl.is_none() { A_WEEK } else { HORIZON });
        for moment in [issued_at, end, may_end, rotates_at, asked_at, looked_at] {
            canon.moment(moment);
        }
        canon.plain((terms.ttl, terms.increment, terms.renewable, terms.renewals_for, terms.poll));
        canon.plain((discriminant(&terms.made), discriminant(&terms.revoked_with), *ttl));
        canon.plain((discriminant(spread), discriminant(renewal), discriminant(told_not_rotated)));
        token_canonical(token, canon);
        canon.plain(doubt.map(|doubt| discriminant(&doubt)));
        if let Some(Doubt::Refused { at } | Doubt::TimeJumped { at }) = doubt {
            canon.moment(at);
        }
        reasons.canonical(canon);
        canon.plain(trouble.is_some());
        trouble.iter_mut().for_each(|trouble| trouble.canonical(canon));
        // Eight times doubled, the back-off is as long as it gets.
        canon.count(same_again, 8);
        canon.plain(draw.to_bits());
    }
}

impl Trouble {
    fn canonical(&mut self, canon: &mut Canon) {
        let Self { count, at, since, kind, retry_after, carried, of } = self;
        // Twelve times doubled, each back-off is as long as it gets; renewals and issues go on in turns.
        canon.parity(count, 12);
        *since = (*since).max(at.earlier(LONGEST_CROWD));
        canon.moment(at);
        canon.moment(since);
        canon.plain((*kind, *retry_after, discriminant(carried), discriminant(of)));
    }
}

/// The largest canonical id.
const LAST_ID: u32 = 3;
const A_WEEK: Duration = Duration::from_secs(604_800);
/// The canonical name of those that were lost.
const LOST: Generation = Generation::new(1000);
/// After so long, the window for a crowd is as wide as it gets with the longest TTL of the search.
const LONGEST_CROWD: Duration = Duration::from_secs(120);
