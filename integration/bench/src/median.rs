//! The middle of what varies.

/// The median, and of an even number the mean of the two in the middle. Not a number if there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    let lower = upper.saturating_sub(usize::from(sorted.len().is_multiple_of(2)));
    match (sorted.get(lower), sorted.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}

/// As [`median`], of whole numbers, and rounded.
pub(crate) fn median_whole(values: impl IntoIterator<Item = u64>) -> u64 {
    median(values.into_iter().map(|value| value as f64)).round() as u64
}

/// To so many digits after the point.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_in_any_order() {
        for (values, middle) in [
            (vec![7.0], 7.0),
            (vec![9.0, 1.0], 5.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0, 1000.0, 2.0], 3.0),
            (vec![-3.0, -1.0, -2.0], -2.0),
        ] {
            assert_eq!(median(values.clone()), middle, "{values:?}");
        }
        assert!(median([]).is_nan());
    }

    #[test]
    fn one_outlier_moves_nothing() {
        assert_eq!(median_whole([10, 11, 12, 13, 14]), median_whole([10, 11, 12, 13, 1_000_000]));
        assert_eq!(median_whole([10, 13]), 12, "rounded up from 11.5");
        assert_eq!(median_whole([]), 0);
    }

    #[test]
    fn digits_after_the_point_are_kept() {
        assert_eq!((rounded(1.0449, 2), rounded(1.0449, 3), rounded(-0.5, 0)), (1.04, 1.045, -1.0));
    }
}
