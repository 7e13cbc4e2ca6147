//! The numbers of a page: values, changes, durations.

use crate::format::grouped;

/// With `digits` significant digits: `0.02634`, `1,112,544`, `1e-5`. Whole numbers are whole.
pub fn short(value: f64, digits: usize) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 {
        return if value == 0.0 { "0".to_owned() } else { value.to_string() };
    }
    if !(1e-3..1e15).contains(&size) {
        let text = format!("{value:.*e}", digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", without_zeros(mantissa));
    }
    if value.fract() == 0.0 || size >= 10f64.powi(digits as i32 - 1) {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", grouped(format_args!("{size:.0}")));
    }
    let decimals = (digits as i32 - 1 - size.log10().floor() as i32).max(0) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// The same with its sign, for changes.
pub fn signed(value: f64, digits: usize) -> String {
    let text = short(value, digits);
    if value > 0.0 { format!("+{text}") } else { text }
}

/// A share as `89.0 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `75` as `1 min 15 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{} s", short(seconds, 2)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// The least and the greatest of some values.
pub fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_their_digits() {
        let cases = [
            (0.0, "0"),
            (28.0, "28"),
            (0.026341605603986663, "0.02634"),
            (-0.7640222199261189, "-0.764"),
            (1140.9386486573237, "1,141"),
            (99.996, "100"),
            (1112544.0, "1,112,544"),
            (37003.07607668083, "37,003"),
            (8.031187854514732e-9, "8.031e-9"),
            (1e-5, "1e-5"),
            (-1e21, "-1e21"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value, 4), expected);
        }
        assert_eq!((signed(0.5, 4), signed(-0.5, 4), signed(0.0, 4)), ("+0.5".into(), "-0.5".into(), "0".into()));
        assert_eq!(duration(0.1234), "0.12 s");
        assert_eq!(duration(75.4), "1 min 15 s");
        assert_eq!(duration(7322.0), "2 h 2 min");
    }
}
