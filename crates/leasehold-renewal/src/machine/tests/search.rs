//! Every state of a small world: all that can happen is tried in each, and each step keeps its promises.
//!
//! The world has a few settings, three draws, and three ways for time to pass: to the next wake, half of the way, and late
//! past it. States that differ only in absolute time, in names, or in a counter that changes nothing any more are one state.
//! The search goes by effort: the usual things take little, and rare things take more. So it comes far along the usual ways,
//! and tries everything close to them. It begins at the start of a keeper, and at a few places that are far from there.

mod canonical;
mod explore;
mod moves;
mod places;
mod quiet;
mod recovery;
mod settings;
mod soundness;
mod trail;

use std::{collections::BTreeSet, sync::Mutex};

use super::transitions;
use explore::Found;

/// Set to anything, it has the long search go on for a minute or two, built with `--release`. Set to a number above one, it is the
/// effort up to which the search goes.
const LONG: &str = "LEASEHOLD_LONG";

/// The rows that no state can be in, each with the reason.
const UNREACHABLE: [(&str, &str); 0] = [];

#[test]
fn every_state_near_a_beginning_keeps_its_promises_and_each_row_of_the_table_is_one() {
    let found = explore_all(3);
    let rows: BTreeSet<String> = transitions::row_names().collect();
    let unreachable: BTreeSet<String> = UNREACHABLE.iter().map(|(row, _)| (*row).to_owned()).collect();
    let reached: BTreeSet<String> = found.places.keys().map(|place| place.name()).collect();
    let possible: BTreeSet<String> = rows.difference(&unreachable).cloned().collect();
    let missing: Vec<_> = possible.difference(&reached).collect();
    let without_row: Vec<_> = reached.difference(&possible).collect();
    assert!(
        missing.is_empty() && without_row.is_empty(),
        "rows that no state is in: {missing:?}; states without a row, or with one that is called unreachable: {without_row:?}"
    );
}

#[test]
fn a_million_states_keep_their_promises() {
    let Some(long) = std::env::var_os(LONG) else {
        return println!("skipped: set {LONG} for what takes minutes");
    };
    let most = long.to_str().and_then(|most| most.parse().ok()).filter(|most| *most > 1).unwrap_or(6);
    let found = explore_all(most);
    assert!(found.states >= 1_000_000, "{} states", found.states);
}

/// Explores all settings, two at a time, and prints what was found.
fn explore_all(most: u8) -> Found {
    let begun = tokio::time::Instant::now();
    let (settings, sum) = (Mutex::new(settings::all().into_iter()), Mutex::new(Found::default()));
    let work = || {
        loop {
            let next = settings.lock().unwrap().next();
            let Some((name, setting)) = next else { return };
            let found = explore::explore(&setting, most);
            let Found { states, tried, transitions, .. } = &found;
            println!("{name}: {states} states, all tried in {tried} of them, {transitions} steps");
            sum.lock().unwrap().add(found);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let sum = sum.into_inner().unwrap();
    let Found { states, tried, transitions, .. } = &sum;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{states} states, all tried in {tried} of them, {transitions} steps, {seconds:.1} s");
    sum
}

impl Found {
    fn add(&mut self, other: Self) {
        let Self { states, tried, transitions, places } = other;
        self.states += states;
        self.tried += tried;
        self.transitions += transitions;
        for (place, effort) in places {
            let least = self.places.entry(place).or_insert(effort);
            *least = effort.min(*least);
        }
    }
}
