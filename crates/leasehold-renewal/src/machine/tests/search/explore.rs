//! The search: each state once, in the order of the effort that it takes to get there.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use super::{
    super::{
        checks,
        plan::Setting,
        world::{Step, World},
    },
    moves,
    places::Place,
    quiet, recovery, settings,
    trail::{Trail, Way},
};

/// The sum of a search.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The distinct states.
    pub(super) states: usize,
    /// Those of them in which everything that can happen was tried.
    pub(super) tried: usize,
    /// The steps that were taken and checked.
    pub(super) transitions: usize,
    /// The rows of the table, each with the least effort that leads there.
    pub(super) places: BTreeMap<Place, u8>,
}

/// Explores the worlds of a setting. Everything that can happen is tried in each state that takes less effort than `most`.
pub(super) fn explore(setting: &Setting, most: u8) -> Found {
    let mut search = Search {
        found: Found::default(),
        known: HashMap::new(),
        waiting: (0..most).map(|_| Vec::new()).collect(),
        trail: Trail::new(setting),
    };
    for (number, beginning) in (0..).zip(settings::beginnings()) {
        search.trail.step = Way::Beginning(number);
        search.reach(settings::begin(setting, &beginning), 0);
    }
    for effort in 0..most {
        while let Some((world, number)) = search.waiting[usize::from(effort)].pop() {
            search.try_all(&world, number, effort);
        }
    }
    search.found.states = search.known.len();
    search.found
}

struct Search {
    found: Found,
    /// The number of each state, by its key.
    known: HashMap<u128, u32>,
    /// The states in which nothing was tried yet, by effort.
    waiting: Vec<Vec<(World, u32)>>,
    trail: Trail,
}

impl Search {
    fn try_all(&mut self, world: &World, number: u32, effort: u8) {
        if self.trail.effort(number) < effort {
            // A shorter way was found meanwhile, and it was tried then.
            return;
        }
        self.found.tried += 1;
        for (which, next) in (0..).zip(moves::all(world)) {
            self.trail.step = Way::From(number, which);
            let mut after = world.clone();
            let transitions = &mut self.found.transitions;
            let mut check = |step: &Step<'_>| {
                *transitions += 1;
                checks::all(step);
            };
            after.happens(&next.what, next.draw, &mut check);
            self.reach(after, effort + next.effort);
        }
    }

    /// Notes the state that the step under way leads to.
    fn reach(&mut self, mut world: World, effort: u8) {
        let key = world.canonical();
        let number = match self.known.entry(key) {
            Entry::Occupied(known) => {
                let number = *known.get();
                if !self.trail.shorten(number, effort) {
                    return;
                }
                number
            }
            Entry::Vacant(free) => {
                let place = Place::of(&world.machine);
                let least = self.found.places.entry(place).or_insert(effort);
                *least = effort.min(*least);
                quiet::a_step_comes(&world);
                recovery::it_recovers(&world);
                *free.insert(self.trail.add(effort))
            }
        };
        if let Some(waiting) = self.waiting.get_mut(usize::from(effort)) {
            waiting.push((world, number));
        }
    }
}
