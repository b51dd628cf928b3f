//! What the process costs the machine.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Bytes that are allocated and not freed, as they were asked for: without what the allocator adds to each.
pub(crate) fn live_bytes() -> usize {
    crate::HEAP.current_usage()
}

/// The CPU time of all threads so far, in user and kernel mode.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
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

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmRSS:\t   2048 kB\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(150));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "VmPeak:"), None);
    }
}
