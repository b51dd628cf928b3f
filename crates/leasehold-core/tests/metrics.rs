//! What a recorder sees.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leasehold_core::{
    Credentials, Error, ErrorKind, EventKind, Grant, Lease, Party,
    clock::{Clock, SystemClock},
    publish,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

#[test]
fn each_event_is_counted_and_gauges_are_sampled() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let mut channel = publish::channel("database/creds/pipeline", Arc::new(SystemClock));
        let lease = Lease::new("1", Duration::from_secs(60), true);
        channel
            .publisher
            .publish(Grant::new(Credentials::new("name", "hunter2".to_owned()), lease), SystemClock.now());
        let current = &channel.current;
        let generation = current.get().unwrap().generation();
        current.count_connections_with(move || vec![(generation, 7)]);
        current.report(generation, EventKind::Adopted);
        current.report(generation, EventKind::Terminated { connections: 2 });
        let error = Error::new(ErrorKind::Sealed, Party::Vault, "sealed");
        channel.publisher.failed(generation, error, Duration::from_secs(1));
        channel.publisher.acted_late(Duration::from_secs(2));
        current.sample_metrics();
    });
    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count.to_string(),
            DebugValue::Gauge(value) => value.ceil().to_string(),
            DebugValue::Histogram(values) => format!("{values:?}"),
        };
        assert!(!labels.iter().any(|label| label.contains("hunter2") || label.contains("name")));
        seen.insert(format!("{} {}", key.name(), labels.join(" ")), value);
    }
    let of = "secret=database/creds/pipeline";
    let expected = [
        (format!("leasehold_connections {of} state=in_force"), "7"),
        (format!("leasehold_connections {of} state=superseded"), "0"),
        (format!("leasehold_failures_total {of} kind=sealed"), "1"),
        (format!("leasehold_forced_closes_total {of}"), "2"),
        (format!("leasehold_issued_total {of}"), "1"),
        (format!("leasehold_lateness_seconds {of}"), "[2.0]"),
        (format!("leasehold_rotations_total {of}"), "1"),
        (format!("leasehold_seconds_to_usable_until {of}"), "60"),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    assert_eq!(seen, expected);
}
