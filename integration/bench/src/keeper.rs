//! `cargo testbed bench keeper`: what keepers cost.

mod fleet;
mod population;
mod recovery;
mod scripted;

use std::fmt;

use anyhow::{Result, ensure};
use fleet::Leases;
use serde::Serialize;

/// What was measured. The README of this crate says what each number means.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    keepers: usize,
    bytes_per_keeper: u64,
    cpu_us_per_renewal: f64,
    /// Of all keepers together; nothing where the system does not say.
    idle_wakeups_per_second: Option<f64>,
    fleet_clients: usize,
    fleet_peak_over_mean: f64,
    /// Likewise, where no lease can be renewed.
    fleet_peak_over_mean_not_renewable: f64,
    recovery_over_minimum: f64,
    wasted_share: f64,
    alone_recovery_s: f64,
}

/// Measures everything. The fleets come last: a process that has once paused tokio's time pays more for it ever after.
pub(crate) fn run() -> Result<Report> {
    let idle = population::idle(KEEPERS)?;
    let busy = population::busy(KEEPERS)?;
    let fleet = fleet::simulate(FLEET_CLIENTS, Leases::Renewable)?;
    let replacing = fleet::simulate(FLEET_CLIENTS, Leases::NotRenewable)?;
    ensure!(fleet.is_finite() && replacing.is_finite(), "a fleet made no requests");
    let recovery = recovery::worst(FLEET_CLIENTS, SEED)?;
    Ok(Report {
        keepers: KEEPERS,
        bytes_per_keeper: idle.bytes_per_keeper,
        cpu_us_per_renewal: rounded(busy.cpu_us_per_renewal),
        idle_wakeups_per_second: idle.wakeups_per_second.map(rounded),
        fleet_clients: FLEET_CLIENTS,
        fleet_peak_over_mean: rounded(fleet),
        fleet_peak_over_mean_not_renewable: rounded(replacing),
        recovery_over_minimum: rounded(recovery.over_minimum),
        wasted_share: recovery.wasted_share,
        alone_recovery_s: rounded(recovery.alone.as_secs_f64()),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wakeups = self
            .idle_wakeups_per_second
            .map_or_else(|| "unknown".to_owned(), |wakeups| format!("{wakeups:.2}"));
        writeln!(f, "{} keepers in one process", self.keepers)?;
        writeln!(f, "  memory of each        {:>10} bytes", self.bytes_per_keeper)?;
        writeln!(f, "  CPU of a renewal      {:>10.2} us", self.cpu_us_per_renewal)?;
        writeln!(f, "  wake-ups while idle   {wakeups:>10} per second, all together")?;
        writeln!(f, "{} processes started in one second", self.fleet_clients)?;
        writeln!(f, "  busiest minute        {:>10.2} times the mean", self.fleet_peak_over_mean)?;
        let not_renewable = self.fleet_peak_over_mean_not_renewable;
        writeln!(f, "  without renewals      {not_renewable:>10.2} times the mean")?;
        writeln!(f, "{} processes that lose everything in one second", self.fleet_clients)?;
        writeln!(
            f,
            "  all work again in     {:>10.2} times the server's minimum",
            self.recovery_over_minimum
        )?;
        writeln!(f, "  served for nobody     {:>10.4} of all", self.wasted_share)?;
        write!(f, "  one process alone     {:>10.2} s", self.alone_recovery_s)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

const KEEPERS: usize = 10_000;
const FLEET_CLIENTS: usize = 10_000;
const SEED: u64 = 1;
