//! Many worlds, and what came of them in all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    draw::{self, Span},
    oracle::{Counts, Violation, lines},
    plan::Plan,
    run::{self, Outcome},
    sometimes::Sometimes,
    time::lock,
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
    sometimes: BTreeMap<Sometimes, u64>,
    /// Rare states, kinds of faults and numbers that a century must reach, and that this one did not reach.
    not_reached: Vec<String>,
    #[serde(skip)]
    failures: Vec<(Plan, Violation)>,
}

/// How many worlds are to be run.
#[derive(Clone, Copy)]
pub(crate) enum Enough {
    /// Until so many years have been lived, in all.
    Years(f64),
    Worlds(u64),
}

/// Runs worlds until it is enough. The same arguments run the same worlds, however many threads there are.
pub(crate) fn many(enough: Enough, from_seed: u64, threads: usize) -> Report {
    let years = match enough {
        Enough::Years(years) => years,
        Enough::Worlds(_) => f64::MAX,
    };
    let plan = move |number| draw::plan(from_seed + number, span(number, years));
    let worlds = match enough {
        Enough::Worlds(worlds) => worlds,
        Enough::Years(years) => {
            let storms = (0..).scan(0.0, |lived, number| {
                let enough = *lived >= years;
                *lived += plan(number).settings.storm_s as f64 / YEAR;
                (!enough).then_some(number)
            });
            storms.count() as u64
        }
    };
    let (next, under_way) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(BTreeSet::new())));
    let (tell, told) = mpsc::channel();
    let workers: Vec<_> = (0..threads.max(1))
        .map(|_| {
            let (next, under_way, tell) = (Arc::clone(&next), Arc::clone(&under_way), tell.clone());
            thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= worlds {
                        return;
                    }
                    let plan = plan(number);
                    lock(&under_way).insert(plan.seed);
                    let begun = Instant::now();
                    let outcome = run::run(&plan, false);
                    lock(&under_way).remove(&plan.seed);
                    if tell.send((plan, outcome, begun.elapsed())).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(tell);
    let mut report = Report::default();
    loop {
        match told.recv_timeout(LONGEST) {
            Ok((plan, outcome, took)) => report.add(&plan, &outcome, took),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                report.broke(format!(
                    "no world ended for {LONGEST:?}; under way are seeds {:?}",
                    lock(&under_way)
                ));
                // Their threads end with the process, because nothing can end them earlier.
                return report;
            }
        }
    }
    for worker in workers {
        if worker.join().is_err() {
            report.broke(format!("a world panicked: one of the seeds {:?}", lock(&under_way)));
        }
    }
    report.reaches_enough(years);
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
        report.add(plan, outcome, Duration::ZERO);
        report
    }

    pub(crate) fn first_failure(&self) -> Option<&(Plan, Violation)> {
        self.failures.first()
    }

    /// Whether every promise was kept, and everything was reached that had to be.
    pub(crate) fn is_good(&self) -> bool {
        self.violations == 0 && self.not_reached.is_empty()
    }

    fn broke(&mut self, about: String) {
        self.violations += 1;
        self.broken.push(about);
    }

    /// A century that does not reach what is rare has proved nothing about it.
    fn reaches_enough(&mut self, years: f64) {
        if !(CENTURY..f64::MAX).contains(&years) {
            return;
        }
        let kinds = draw::names()
            .into_iter()
            .map(|kind| (kind, self.faults_by_kind.get(kind).copied().unwrap_or_default(), LEAST_FAULTS));
        let rare = Sometimes::ALL
            .iter()
            .map(|rare| (rare.text(), self.sometimes.get(rare).copied().unwrap_or_default(), 1));
        let totals =
            [("rotations", self.rotations, LEAST_ROTATIONS), ("queries", self.queries, LEAST_QUERIES)];
        let few = kinds.chain(rare).chain(totals).filter(|(_, count, least)| count < least);
        self.not_reached = few.map(|(what, count, least)| format!("{what}: {count} of {least}")).collect();
    }

    fn add(&mut self, plan: &Plan, outcome: &Outcome, took: Duration) {
        if took > LONG {
            self.broke(format!("seed {} ({} s) took {took:?}", plan.seed, plan.settings.storm_s));
        }
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
            *self.sometimes.entry(*what).or_default() += count;
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
        let sometimes = self.sometimes.iter().map(|(what, count)| (what.text(), *count));
        f.write_str(&lines(&sometimes.collect()))?;
        writeln!(f, "{} rotations, {} queries", self.rotations, self.queries)?;
        writeln!(f, "  {} failed though their credentials lived", self.failed_while_credentials_lived)?;
        writeln!(f, "  {} failed in trouble", self.failed_otherwise)?;
        writeln!(f, "  {} users of one role at most", self.most_users_of_a_role)?;
        write!(f, "{} violations", self.violations)?;
        self.broken.iter().try_for_each(|broken| write!(f, "\n  {broken}"))?;
        self.not_reached.iter().try_for_each(|what| write!(f, "\nnot reached: {what}"))
    }
}

const YEAR: f64 = 365.0 * 86_400.0;
const CENTURY: f64 = 100.0;
const LEAST_FAULTS: u64 = 1_000;
const LEAST_ROTATIONS: u64 = 100_000;
const LEAST_QUERIES: u64 = 10_000_000;
/// A world takes seconds, and a minute on a machine that has much else to do. One that takes many hides a loop in which little
/// time passes.
const LONG: Duration = Duration::from_secs(400);
const LONGEST: Duration = Duration::from_secs(600);
