//! What the process costs the machine, and what else the machine does.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Bytes that are allocated and not freed, as they were asked for: without what the allocator adds to each.
pub(crate) fn live_bytes() -> usize {
    let heap = crate::HEAP.stats();
    heap.bytes_allocated.wrapping_sub(heap.bytes_deallocated)
}

/// How often anything was allocated so far, or made larger or smaller.
pub(crate) fn allocations() -> usize {
    let heap = crate::HEAP.stats();
    heap.allocations.wrapping_add(heap.reallocations)
}

/// The CPU time of all threads so far, in user and kernel mode.
pub(crate) fn cpu_time() -> Duration {
    time_of(ClockId::ProcessCPUTime)
}

/// The CPU time of this thread so far, in user and kernel mode.
pub(crate) fn cpu_time_of_this_thread() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (secs, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}

/// How often any thread of the process was taken off a processor so far, of its own will or not: each wake-up ends in
/// one of these. Nothing where there is no `/proc`. A thread that ended between two calls would be missing from the second.
pub(crate) fn context_switches() -> Option<u64> {
    let mut switches = 0;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let status = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        switches +=
            field(&status, "voluntary_ctxt_switches:")? + field(&status, "nonvoluntary_ctxt_switches:")?;
    }
    Some(switches)
}

/// The resident memory of the process in bytes. Nothing where there is no `/proc`.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmRSS:").map(|kib| kib * 1024)
}

/// How long all processors together have been at work, and how long they have been there, since the machine started.
/// Nothing where there is no `/proc`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Processors {
    at_work: u64,
    there: u64,
}

impl Processors {
    pub(crate) fn so_far() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// How busy they were since then: 1 if none of them was ever idle.
    pub(crate) fn busy_since(self, then: Self) -> f64 {
        self.at_work.saturating_sub(then.at_work) as f64 / self.there.saturating_sub(then.there) as f64
    }

    /// The first line is of all processors: user, nice, system, idle, waiting for a disk, and more.
    fn parse(stat: &str) -> Option<Self> {
        let times = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let times = times.map(|time| time.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let idle: u64 = times.get(3..5)?.iter().sum();
        let there: u64 = times.iter().sum();
        Some(Self { at_work: there - idle, there })
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_busy_unless_they_are_idle_or_wait_for_a_disk() {
        // The last two are guests' time, which is in the first two already.
        let then = Processors::parse("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 2 3\n").unwrap();
        let now = Processors::parse("cpu  130 5 60 845 55 1 2 2 9 9\n").unwrap();
        assert_eq!(now.busy_since(then), 0.5);
        assert_eq!(Processors::parse("intr 1 2 3"), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmRSS:\t   2048 kB\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(150));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "VmPeak:"), None);
    }
}
