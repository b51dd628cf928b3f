//! The medians over the batches.

use std::fmt;

use serde::Serialize;

use super::Cost;
use crate::median::{median, rounded};

/// What was measured. The README of this crate says what each number means.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) adapters: Vec<OfAdapter>,
}

#[derive(Debug, Serialize)]
pub(super) struct OfAdapter {
    adapter: &'static str,
    /// Nothing where the system does not count them.
    instructions_added: Option<f64>,
    ns_added: f64,
    allocations_added: f64,
    /// Nanoseconds added over those that the plain pool takes.
    ratio: f64,
    /// The same of instructions. They are of user mode only: what the kernel does for a question to the server is not
    /// among the plain pool's.
    instructions_ratio: Option<f64>,
    plain: Plain,
}

/// What there was before our hooks.
#[derive(Debug, Serialize)]
struct Plain {
    instructions: Option<f64>,
    ns: f64,
    allocations: f64,
}

impl OfAdapter {
    /// With instructions that were counted elsewhere.
    pub(super) fn with_instructions(mut self, Counts { plain, leasehold }: Counts) -> Self {
        let added = leasehold - plain;
        self.instructions_added = Some(rounded(added, 1));
        self.plain.instructions = Some(rounded(plain, 1));
        self.instructions_ratio = Some(rounded(added / plain, 4));
        self
    }

    pub(super) fn new(adapter: &'static str, plain: &[Cost], ours: &[Cost]) -> Self {
        let (ns, ns_added) = added(plain, ours, |cost| cost.ns);
        let (allocations, allocations_added) = added(plain, ours, |cost| cost.allocations);
        let (instructions, instructions_added) =
            added(plain, ours, |cost| cost.instructions.unwrap_or(f64::NAN));
        let known = |number: f64, digits| (!number.is_nan()).then(|| rounded(number, digits));
        let counted = |number| known(number, 1);
        Self {
            adapter,
            instructions_added: counted(instructions_added),
            ns_added: rounded(ns_added, 1),
            allocations_added: rounded(allocations_added, 2),
            ratio: rounded(ns_added / ns, 4),
            instructions_ratio: known(instructions_added / instructions, 4),
            plain: Plain {
                instructions: counted(instructions),
                ns: rounded(ns, 1),
                allocations: rounded(allocations, 2),
            },
        }
    }
}

/// Instructions of one check-out and return, each counted once: they do not depend on the machine's mood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) plain: f64,
    pub(super) leasehold: f64,
}

/// What the plain pool takes, and what ours takes more: each batch is compared with its neighbour, and a moment in
/// which the machine was busy with something else is one of many.
fn added(plain: &[Cost], ours: &[Cost], what: fn(&Cost) -> f64) -> (f64, f64) {
    let more = plain.iter().zip(ours).map(|(plain, ours)| what(ours) - what(plain));
    (median(plain.iter().map(what)), median(more))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a check-out and return      plain     added  ratio")?;
        for of in &self.adapters {
            let plain = &of.plain;
            write!(f, "\n{}", of.adapter)?;
            write!(f, "\n  nanoseconds          {:>10.1}{:>10.1}", plain.ns, of.ns_added)?;
            if let (Some(plain), Some(added)) = (plain.instructions, of.instructions_added) {
                let ratio = 100.0 * of.instructions_ratio.unwrap_or(f64::NAN);
                write!(f, "\n  instructions         {plain:>10.1}{added:>10.1}  {ratio:.1} %")?;
            }
            write!(f, "\n  allocations          {:>10.2}{:>10.2}", plain.allocations, of.allocations_added)?;
            let goal = if of.ratio <= RATIO_GOAL { "met" } else { "missed" };
            write!(f, "\n  goal: at most {:.0} %, {goal}: {:.1} %", RATIO_GOAL * 100.0, of.ratio * 100.0)?;
        }
        Ok(())
    }
}

const RATIO_GOAL: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(ns: &[f64], instructions: Option<f64>, allocations: f64) -> Vec<Cost> {
        ns.iter().map(|ns| Cost { ns: *ns, instructions, allocations }).collect()
    }

    #[test]
    fn a_batch_is_compared_with_its_neighbour() {
        // The machine became slower and slower; ours took 10 more each time, but for one interruption.
        let plain = costs(&[100.0, 200.0, 300.0], None, 2.0);
        let ours = costs(&[110.0, 210.0, 9310.0], None, 2.0);
        let report = OfAdapter::new("it", &plain, &ours);
        assert_eq!((report.plain.ns, report.ns_added, report.ratio), (200.0, 10.0, 0.05));
        assert_eq!((report.plain.allocations, report.allocations_added), (2.0, 0.0));
    }

    #[test]
    fn instructions_have_a_ratio_of_their_own_where_they_are_counted() {
        let report =
            OfAdapter::new("it", &costs(&[100.0], Some(1000.0), 0.0), &costs(&[150.0], Some(1010.0), 1.0));
        assert_eq!((report.instructions_added, report.instructions_ratio), (Some(10.0), Some(0.01)));
        let later = OfAdapter::new("it", &costs(&[100.0], None, 0.0), &costs(&[150.0], None, 1.0))
            .with_instructions(Counts { plain: 200.0, leasehold: 206.0 });
        assert_eq!((later.instructions_added, later.instructions_ratio), (Some(6.0), Some(0.03)));
        assert_eq!((report.ratio, later.ratio), (0.5, 0.5), "nanoseconds, in any case");
        let json =
            serde_json::to_value(OfAdapter::new("it", &costs(&[1.0], None, 0.0), &costs(&[1.0], None, 0.0)));
        let json = json.unwrap();
        assert!(json["instructions_added"].is_null() && json["plain"]["instructions"].is_null(), "{json}");
    }
}
