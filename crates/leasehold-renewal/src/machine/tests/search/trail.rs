//! The way to each state, so that a broken promise is told with the plan that leads to it.

use super::{super::plan::Setting, moves, settings};

/// The ways to all states that were found. If a check panics, the way to the step under way is printed.
pub(super) struct Trail {
    setting: Setting,
    /// Of each state, by its number: how it was reached.
    ways: Vec<Way>,
    /// Of each state: the least effort that leads there.
    efforts: Vec<u8>,
    /// The step under way.
    pub(super) step: Way,
}

#[derive(Clone, Copy)]
pub(super) enum Way {
    /// At the beginning with this number.
    Beginning(u8),
    /// From this state, by the move with this number.
    From(u32, u8),
}

impl Trail {
    pub(super) fn new(setting: &Setting) -> Self {
        Self { setting: setting.clone(), ways: Vec::new(), efforts: Vec::new(), step: Way::Beginning(0) }
    }

    /// Adds a state that the step under way leads to. Returns its number.
    pub(super) fn add(&mut self, effort: u8) -> u32 {
        self.ways.push(self.step);
        self.efforts.push(effort);
        u32::try_from(self.ways.len() - 1).expect("fewer states than that")
    }

    /// Notes the step under way as the way to a state, if it takes less effort. Returns whether it does.
    pub(super) fn shorten(&mut self, state: u32, effort: u8) -> bool {
        let state = state as usize;
        let shorter = effort < self.efforts[state];
        if shorter {
            (self.ways[state], self.efforts[state]) = (self.step, effort);
        }
        shorter
    }

    pub(super) fn effort(&self, state: u32) -> u8 {
        self.efforts[state as usize]
    }

    /// The beginning, and the numbers of the moves from there to the end of the step under way.
    fn way(&self) -> (u8, Vec<u8>) {
        let (mut way, mut numbers) = (self.step, Vec::new());
        loop {
            match way {
                Way::Beginning(beginning) => {
                    numbers.reverse();
                    return (beginning, numbers);
                }
                Way::From(before, number) => {
                    numbers.push(number);
                    way = self.ways[before as usize];
                }
            }
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let (beginning, numbers) = self.way();
        eprintln!("{:?}\n    from beginning {beginning}", self.setting);
        let beginning = &settings::beginnings()[usize::from(beginning)];
        let mut world = settings::begin(&self.setting, beginning);
        for number in numbers {
            world.canonical();
            let Some(next) = moves::all(&world).into_iter().nth(usize::from(number)) else { return };
            eprintln!("    {:?}, draw {}", next.what, next.draw);
            world.happens(&next.what, next.draw, &mut |_| {});
        }
    }
}
