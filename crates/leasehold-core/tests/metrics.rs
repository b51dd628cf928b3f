//! What a recorder sees.

#![expect(clippy::panic, reason = "a recorder that does")]

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

/// Somebody else's code.
struct Panics;

impl metrics::Recorder for Panics {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        panic!("as a recorder might")
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        panic!("as a recorder might")
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        panic!("as a recorder might")
    }
}

#[test]
fn a_recorder_that_panics_ends_no_keeper() {
    metrics::with_local_recorder(&Panics, || {
        let mut channel = publish::channel("database/creds/pipeline", Arc::new(SystemClock));
        let lease = Lease::new("1", Duration::from_secs(60), true);
        let grant = Grant::new(Credentials::new("name", "hunter2".to_owned()), lease);
        channel.publisher.publish(grant, SystemClock.now());
        channel.publisher.acted_late(Duration::from_secs(2));
        assert!(channel.current.get().is_ok());
    });
}
