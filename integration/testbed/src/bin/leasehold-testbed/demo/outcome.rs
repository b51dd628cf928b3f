//! What the demo measured, and whether that is good.

use std::time::Duration;

use leasehold_testbed::load::Measured;
use serde::Serialize;

/// The object that `--json` prints. Times are in microseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    pub(crate) queries: u64,
    pub(crate) failed: u64,
    /// Successors adopted by the pool after the first generation.
    pub(crate) rotations: u64,
    pub(crate) token_generations: u64,
    /// Read from the servers after shut-down; `null` with `--external`.
    pub(crate) leases_left: Option<usize>,
    pub(crate) tokens_left: Option<usize>,
    pub(crate) users_left: Option<usize>,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
    /// The first failures of queries, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<String>,
    /// Whether somebody stopped it before its time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stopped_early: bool,
    /// What kept the demo from running, if something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Outcome {
    pub(crate) fn record(&mut self, measured: Measured) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.seconds = measured.ran_for.as_secs_f64();
        (self.queries, self.failed) = (measured.queries, measured.failed);
        self.failures = measured.failures;
        self.failures.dedup();
        (self.p50_us, self.p99_us) = (micros(measured.p50), micros(measured.p99));
        (self.p999_us, self.max_us) = (micros(measured.p999), micros(measured.max));
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!(r#"{{"error":"{error}"}}"#))
    }

    /// Everything that is wrong with it; empty if nothing is.
    pub(crate) fn verdict(&self, external: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        wrong.extend(self.error.clone());
        if self.failed > 0 {
            let first = self.failures.first().map(|failure| format!(": {failure}")).unwrap_or_default();
            wrong.push(format!("{} of {} queries failed{first}", self.failed, self.queries));
        }
        // The TTLs of somebody's own server are theirs.
        let expected = if external { 0 } else { expected_rotations(self.seconds) };
        if self.rotations < expected {
            wrong.push(format!(
                "{} rotations in {:.0} s; {expected} were to be expected",
                self.rotations, self.seconds
            ));
        }
        for (what, left) in
            [("leases", self.leases_left), ("tokens", self.tokens_left), ("database users", self.users_left)]
        {
            if let Some(left @ 1..) = left {
                wrong.push(format!("{left} {what} left behind"));
            }
        }
        wrong
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number, rounded down, not below zero"
)]
fn expected_rotations(seconds: f64) -> u64 {
    (seconds / 15.0 - 1.0).floor().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Outcome {
        Outcome {
            seconds: 60.0,
            queries: 12_000,
            rotations: 3,
            leases_left: Some(0),
            tokens_left: Some(0),
            users_left: Some(0),
            ..Outcome::default()
        }
    }

    #[test]
    fn each_defect_is_told() {
        assert!(good().verdict(false).is_empty());
        assert_eq!(Outcome { failed: 1, ..good() }.verdict(false), ["1 of 12000 queries failed"]);
        assert_eq!(Outcome { rotations: 2, ..good() }.verdict(false).len(), 1);
        assert!(Outcome { rotations: 0, ..good() }.verdict(true).is_empty());
        assert!(Outcome { rotations: 0, seconds: 29.9, ..good() }.verdict(false).is_empty());
        assert_eq!(Outcome { rotations: 0, seconds: 30.0, ..good() }.verdict(false).len(), 1);
        assert_eq!(
            Outcome { users_left: Some(2), ..good() }.verdict(false),
            ["2 database users left behind"]
        );
        assert_eq!(Outcome { error: Some("no".to_owned()), ..good() }.verdict(true), ["no"]);
    }

    #[test]
    fn the_object_has_the_documented_fields() {
        let value: serde_json::Value = serde_json::from_str(&good().to_json()).unwrap();
        let fields = [
            "seconds",
            "queries",
            "failed",
            "rotations",
            "token_generations",
            "leases_left",
            "tokens_left",
            "users_left",
            "p50_us",
            "p99_us",
            "p999_us",
            "max_us",
        ];
        let object = value.as_object().unwrap();
        assert_eq!(object.len(), fields.len());
        for field in fields {
            assert!(object.contains_key(field), "{field}");
        }
    }
}
