//! Kept plans, fixed seeds, and the sameness of two runs. New seeds are for `bash .ci/run full`, so that an old bug never
//! stands in the way of an unrelated change.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    draw::{self, Span},
    plan::{Plan, VERSION},
    run::run,
};

/// Every plan that a finding or an old bug left, in the order of their names.
fn kept_plans() -> Vec<(String, Plan)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let plan: Plan = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), plan)
    };
    files.into_iter().map(read).collect()
}

fn keeps_every_promise(plan: &Plan, name: &str) {
    let outcome = run(plan, false);
    assert_eq!(outcome.violations, [], "{name}");
}

/// Each shows a bug that was there. A part of them is one test, so that the parts run beside each other.
fn run_kept(part: usize) {
    let plans = kept_plans();
    assert!(plans.len() > 20, "the plans are kept in a folder beside the sources");
    for (name, plan) in plans.into_iter().skip(part).step_by(PARTS) {
        assert_eq!(plan.version, VERSION, "{name}");
        keeps_every_promise(&plan, &name);
    }
}

macro_rules! kept_plans_break_no_promise {
    ($($name:ident = $part:literal),*) => {
        $(#[test]
        fn $name() {
            run_kept($part);
        })*
    };
}

kept_plans_break_no_promise!(
    kept_plans_break_no_promise_first_part = 0,
    kept_plans_break_no_promise_second_part = 1,
    kept_plans_break_no_promise_third_part = 2,
    kept_plans_break_no_promise_fourth_part = 3,
    kept_plans_break_no_promise_fifth_part = 4,
    kept_plans_break_no_promise_sixth_part = 5
);

/// Short worlds, because these are not optimized: with the swarm that each seed draws.
fn run_seeds(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut plan = draw::plan(seed, Span::Hours);
        plan.settings.storm_s = plan.settings.storm_s.min(1_800);
        plan.faults.retain(|fault| fault.at_ms < plan.settings.storm_s * 1_000);
        keeps_every_promise(&plan, &format!("seed {seed}"));
    }
}

#[test]
fn fixed_seeds_break_no_promise_first_part() {
    run_seeds(0..6);
}

#[test]
fn fixed_seeds_break_no_promise_second_part() {
    run_seeds(6..12);
}

#[test]
fn a_plan_is_the_same_after_it_was_written_and_read() {
    for seed in 0..200 {
        for span in [Span::Hours, Span::Weeks, Span::Year] {
            let plan = draw::plan(seed, span);
            assert_eq!(plan, draw::plan(seed, span), "seed {seed}");
            let text = serde_json::to_string(&plan).unwrap();
            let read: Plan = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text, "seed {seed}");
        }
    }
}

/// A change that an old bug's patch no longer fits is to redo that patch too.
#[test]
fn every_old_bug_can_be_put_back() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let patches = fs::read_dir(root.join("integration/world/mutants")).unwrap();
    let patches = patches.map(|entry| entry.unwrap().path());
    let patches: Vec<_> =
        patches.filter(|path| path.extension().is_some_and(|extension| extension == "patch")).collect();
    assert!(patches.len() > 20, "{patches:?}");
    for patch in patches {
        let answer = Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(&root).output();
        let answer = answer.unwrap();
        assert!(answer.status.success(), "{patch:?}: {}", String::from_utf8_lossy(&answer.stderr));
    }
}

const PARTS: usize = 6;
