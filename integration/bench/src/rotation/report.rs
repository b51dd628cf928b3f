//! The medians over the rounds.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{Measured, Options, Pass, Round};
use crate::median::{median, median_whole, rounded};

/// What was measured. The README of this crate says what each number means.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rounds: u32,
    seconds: u32,
    rate: u32,
    connections: u32,
    /// The median of all passes; nothing where the system does not say.
    machine_busy: Option<f64>,
    adapters: Vec<OfAdapter>,
}

#[derive(Debug, Serialize)]
struct OfAdapter {
    adapter: &'static str,
    /// Of ours, in all rounds together; the pool that closes at check-out had as many.
    rotations: usize,
    /// Of ours, in all rounds together.
    failed: u64,
    plain: Latency,
    close_at_checkout: Latency,
    leasehold: Latency,
    /// Ours over the plain pool's, round by round, and of that the median.
    p999_ratio: f64,
    close_at_checkout_p999_ratio: f64,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    /// The smallest and the largest of the rounds, which is how much the machine varies.
    p999_us_range: [u64; 2],
    failed: u64,
}

impl Report {
    pub(super) fn new(options: &Options, measured: &[Measured]) -> Self {
        let rounds = measured.iter().flat_map(|of| &of.rounds);
        let passes = rounds.flat_map(|round| [&round.plain, &round.close_at_check_out, &round.leasehold]);
        let busy = median(passes.filter_map(|pass| pass.busy));
        Self {
            rounds: options.rounds.get(),
            seconds: options.seconds,
            rate: options.rate.get(),
            connections: options.connections.get(),
            machine_busy: busy.is_finite().then(|| rounded(busy, 2)),
            adapters: measured.iter().map(OfAdapter::new).collect(),
        }
    }
}

impl OfAdapter {
    fn new(Measured { adapter, rounds }: &Measured) -> Self {
        let ratio = |of: fn(&Round) -> &Pass| {
            let each = rounds
                .iter()
                .map(|round| of(round).load.p999.as_secs_f64() / round.plain.load.p999.as_secs_f64());
            rounded(median(each), 3)
        };
        Self {
            adapter,
            rotations: rounds.iter().map(|round| round.leasehold.rotations).sum(),
            failed: rounds.iter().map(|round| round.leasehold.load.failed).sum(),
            plain: Latency::new(rounds.iter().map(|round| &round.plain)),
            close_at_checkout: Latency::new(rounds.iter().map(|round| &round.close_at_check_out)),
            leasehold: Latency::new(rounds.iter().map(|round| &round.leasehold)),
            p999_ratio: ratio(|round| &round.leasehold),
            close_at_checkout_p999_ratio: ratio(|round| &round.close_at_check_out),
        }
    }
}

impl Latency {
    fn new<'a>(passes: impl Iterator<Item = &'a Pass> + Clone) -> Self {
        let p999 = passes.clone().map(|pass| micros(pass.load.p999));
        Self {
            p50_us: median_whole(passes.clone().map(|pass| micros(pass.load.p50))),
            p99_us: median_whole(passes.clone().map(|pass| micros(pass.load.p99))),
            p999_us: median_whole(p999.clone()),
            p999_us_range: [p999.clone().min().unwrap_or_default(), p999.max().unwrap_or_default()],
            failed: passes.map(|pass| pass.load.failed).sum(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, seconds, rate, connections, machine_busy, adapters } = self;
        write!(
            f,
            "{connections} connections, {rate} queries per second, {seconds} s each; medians of {rounds} rounds"
        )?;
        if let Some(busy) = machine_busy {
            write!(f, "\nthe machine was {:.0} % busy, with this and with anything else", 100.0 * busy)?;
        }
        for of in adapters {
            write!(
                f,
                "\n\n{:<20} {:>9} {:>9} {:>9}   over plain   failed",
                of.adapter, "p50", "p99", "p99.9"
            )?;
            for (way, latency, ratio) in [
                ("plain", &of.plain, 1.0),
                ("close at check-out", &of.close_at_checkout, of.close_at_checkout_p999_ratio),
                ("leasehold", &of.leasehold, of.p999_ratio),
            ] {
                let [p50, p99, p999] = [latency.p50_us, latency.p99_us, latency.p999_us]
                    .map(|us| format!("{:.2} ms", us as f64 / 1e3));
                write!(f, "\n  {way:<18} {p50:>9} {p99:>9} {p999:>9} {ratio:>12.2} {:>8}", latency.failed)?;
            }
            let goal = |met| if met { "met" } else { "missed" };
            write!(
                f,
                "\n  {} rotations; goals: none failed, {}; p99.9 at most {RATIO_GOAL:.2} times the plain pool's, {}",
                of.rotations,
                goal(of.failed == 0),
                goal(of.p999_ratio <= RATIO_GOAL),
            )?;
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

const RATIO_GOAL: f64 = 1.10;

#[cfg(test)]
mod tests {
    use super::{super::pass, *};
    use crate::pools::Way;

    fn round(plain: u64, close: u64, ours: u64, failed: u64) -> Round {
        Round {
            plain: pass::tests::made_up(Way::Plain, plain, 0, 0),
            close_at_check_out: pass::tests::made_up(Way::CloseAtCheckOut, close, 3, 2),
            leasehold: pass::tests::made_up(Way::Leasehold, ours, 3, failed),
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_own_ratios() {
        // A machine that is ten times slower in one round says nothing about the pools.
        let rounds =
            vec![round(1000, 5000, 1100, 0), round(10_000, 50_000, 10_500, 1), round(1000, 9000, 3000, 0)];
        let report = OfAdapter::new(&Measured { adapter: "it", rounds });
        assert_eq!((report.p999_ratio, report.close_at_checkout_p999_ratio), (1.1, 5.0));
        assert_eq!((report.rotations, report.failed, report.close_at_checkout.failed), (9, 1, 6));
        assert_eq!((report.plain.p999_us, report.plain.p999_us_range), (1000, [1000, 10_000]));
    }

    #[test]
    fn the_object_has_the_promised_shape() {
        let measured = Measured { adapter: "it", rounds: vec![round(1, 2, 3, 0)] };
        let json = serde_json::to_value(OfAdapter::new(&measured)).unwrap();
        for pointer in [
            "/adapter",
            "/rotations",
            "/failed",
            "/plain/p50_us",
            "/plain/p99_us",
            "/plain/p999_us",
            "/close_at_checkout/p999_us",
            "/close_at_checkout/failed",
            "/leasehold/p999_us",
            "/p999_ratio",
        ] {
            assert!(json.pointer(pointer).is_some(), "{pointer} is missing in {json}");
        }
    }
}
