//! A step does not tell a world from its canonical form, so that the search may keep only the canonical form.

use std::{mem::discriminant, time::Duration};

use proptest::prelude::*;

use super::{
    super::{super::Command, plan::Setting, world::World},
    moves, settings,
};

/// The choice of a beginning, and of what happens there: whether it is one of the usual things, and which.
fn any_walk() -> impl Strategy<Value = (usize, Vec<(bool, usize)>)> {
    let choice = (prop::bool::weighted(0.6), 0..1000_usize);
    (0..settings::beginnings().len(), prop::collection::vec(choice, 1..40))
}

fn any_setting() -> impl Strategy<Value = Setting> {
    prop::sample::select(settings::all()).prop_map(|(_, setting)| setting)
}

/// A command without its absolute moments and names. How late a request left is only reported, and what is long past is only
/// long past.
fn words(command: &Command) -> impl PartialEq + std::fmt::Debug + use<> {
    let span = match command {
        Command::Renew { bound, .. } | Command::Revoke { bound, .. } => *bound,
        Command::Failed { retry_in, .. } => *retry_in,
        Command::OverBudget { wait, .. } => *wait,
        _ => Duration::ZERO,
    };
    (discriminant(command), span)
}

proptest! {
    #[test]
    fn a_step_does_not_tell_a_world_from_its_canonical_form(setting in any_setting(), (beginning, walk) in any_walk()) {
        let mut as_it_is = settings::begin(&setting, &settings::beginnings()[beginning]);
        let mut canonical = as_it_is.clone();
        let mut key = canonical.canonical();
        for (usual, which) in walk {
            let (mut moves, others) = (moves::all(&as_it_is), moves::all(&canonical));
            prop_assert!(moves == others, "other things can happen");
            if usual {
                moves.retain(|next| next.effort == 1);
            }
            let Some(next) = moves.get(which % moves.len().max(1)) else { break };
            let happen = |world: &mut World| {
                let mut commands = Vec::new();
                world.happens(&next.what, next.draw, &mut |step| commands.extend(step.commands.iter().map(words)));
                commands
            };
            prop_assert_eq!(happen(&mut as_it_is), happen(&mut canonical), "after {:?}", next.what);
            key = canonical.canonical();
            let mut settled = as_it_is.clone();
            prop_assert_eq!(settled.canonical(), key, "{:#?} and {:#?}", settled, canonical);
        }
        prop_assert_eq!(canonical.canonical(), key, "the canonical form of a canonical form is the same");
    }
}
