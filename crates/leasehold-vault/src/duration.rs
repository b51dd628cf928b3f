//! Durations as the official clients write them.

use std::time::Duration;

/// Reads whole seconds (`30`) or a Go duration (`10s`, `1m30s`, `1.5h`); `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // An empty text ends here too: it is no number.
        return text.parse().ok().map(Duration::from_secs);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, after) = split_where(after, |c| c.is_ascii_digit() || c == '.');
        total = total.checked_add(times(number.parse().ok()?, unit)?)?;
        rest = after;
    }
    Some(total)
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

fn times(number: f64, unit: &str) -> Option<Duration> {
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_official_clients_read() {
        let table: &[(&str, Option<f64>)] = &[
            ("30", Some(30.0)),
            (" 5 ", Some(5.0)),
            ("10s", Some(10.0)),
            ("1m30s", Some(90.0)),
            ("1.5h", Some(5400.0)),
            ("500ms", Some(0.5)),
            ("0", Some(0.0)),
            ("2d", Some(172_800.0)),
            ("", None),
            ("s", None),
            ("10x", None),
            ("10 s", None),
            ("-3s", None),
            ("1.2.3s", None),
            ("1m30", None),
            (".", None),
            ("99999999999999999999", None),
            ("99999999999999999999h", None),
        ];
        for (text, seconds) in table {
            assert_eq!(parse(text), seconds.map(Duration::from_secs_f64), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn reads_back_what_go_writes(hours in 0..99u64, minutes in 0..60u64, seconds in 0..60u64) {
            let expected = Duration::from_secs(hours * 3600 + minutes * 60 + seconds);
            prop_assert_eq!(parse(&format!("{hours}h{minutes}m{seconds}s")), Some(expected));
        }
    }
}
