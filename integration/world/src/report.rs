//! Many worlds, and what came of them in all.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use serde::Serialize;

use crate::{
    draw::{self, Span},
    oracle::{Counts, Violation, lines},
    plan::Plan,
    run::{self, Outcome},
};

/// What came of it. The README of this crate says what each number means.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) years: f64,
    seeds: u64,
    steps: u64,
    requests: u64,
    faults: u64,
    rotations: u64,
    queries: u64,
    failed_while_credentials_lived: u64,
    failed_otherwise: u64,
    most_users_of_a_role: usize,
    pub(crate) violations: u64,
    /// All traces in one number: the same worlds leave the same.
    trace: u64,
    /// The first violation of each seed that broke a promise.
    broken: Vec<String>,
    faults_by_kind: BTreeMap<&'static str, u64>,
    sometimes: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    failures: Vec<(Plan, Violation)>,
}

/// Runs worlds until so many years have been lived. The same arguments run the same worlds, however many threads there are.
pub(crate) fn years(years: f64, from_seed: u64, threads: usize) -> Report {
    let plan = move |number| draw::plan(from_seed + number, span(number, years));
    let storms = (0..).scan(0.0, |lived, number| {
        let enough = *lived >= years;
        *lived += plan(number).settings.storm_s as f64 / YEAR;
        (!enough).then_some(number)
    });
    let worlds = storms.count() as u64;
    let next = Arc::new(AtomicU64::new(0));
    let (tell, told) = mpsc::channel();
    let workers: Vec<_> = (0..threads.max(1))
        .map(|_| {
            let (next, tell) = (Arc::clone(&next), tell.clone());
            thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= worlds {
                        return;
                    }
                    let plan = plan(number);
                    let outcome = run::run(&plan, false);
                    if tell.send((plan, outcome)).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(tell);
    let mut report = Report::default();
    for (plan, outcome) in told {
        report.add(&plan, &outcome);
    }
    for worker in workers {
        if worker.join().is_err() {
            report.violations += 1;
            report.broken.push("a world panicked".to_owned());
        }
    }
    report
}

/// Where many years are to be lived, two worlds of five last one; most others last hours, where most happens.
fn span(number: u64, years: f64) -> Span {
    match number % 20 {
        0..8 if years >= 5.0 => Span::Year,
        8..11 if years >= 0.5 => Span::Weeks,
        _ => Span::Hours,
    }
}

impl Report {
    pub(crate) fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let mut report = Self::default();
        report.add(plan, outcome);
        report
    }

    pub(crate) fn first_failure(&self) -> Option<&(Plan, Violation)> {
        self.failures.first()
    }

    fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        let Counts {
            steps,
            requests,
            rotations,
            queries,
            failed_while_credentials_lived,
            failed_otherwise,
            faults,
            sometimes,
            most_users_of_a_role,
        } = &outcome.counts;
        self.years += outcome.lasted.as_secs_f64() / YEAR;
        self.seeds += 1;
        self.trace = self.trace.wrapping_add(outcome.trace);
        self.steps += steps;
        self.requests += requests;
        self.rotations += rotations;
        self.queries += queries;
        self.failed_while_credentials_lived += failed_while_credentials_lived;
        self.failed_otherwise += failed_otherwise;
        self.most_users_of_a_role = self.most_users_of_a_role.max(*most_users_of_a_role);
        self.faults += faults.values().sum::<u64>();
        for (kind, count) in faults {
            *self.faults_by_kind.entry(kind).or_default() += count;
        }
        for (what, count) in sometimes {
            *self.sometimes.entry(what).or_default() += count;
        }
        self.violations += u64::try_from(outcome.violations.len()).unwrap_or(u64::MAX);
        if let Some(violation) = outcome.violations.first() {
            self.broken.push(format!("seed {} ({} s): {violation}", plan.seed, plan.settings.storm_s));
            self.failures.push((plan.clone(), violation.clone()));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.2} years in {} worlds: {} steps, {} requests",
            self.years, self.seeds, self.steps, self.requests
        )?;
        writeln!(f, "{} faults", self.faults)?;
        f.write_str(&lines(&self.faults_by_kind))?;
        writeln!(f, "sometimes")?;
        f.write_str(&lines(&self.sometimes))?;
        writeln!(f, "{} rotations, {} queries", self.rotations, self.queries)?;
        writeln!(f, "  {} failed though their credentials lived", self.failed_while_credentials_lived)?;
        writeln!(f, "  {} failed in trouble", self.failed_otherwise)?;
        writeln!(f, "  {} users of one role at most", self.most_users_of_a_role)?;
        write!(f, "{} violations", self.violations)?;
        self.broken.iter().try_for_each(|broken| write!(f, "\n  {broken}"))
    }
}

const YEAR: f64 = 365.0 * 86_400.0;
