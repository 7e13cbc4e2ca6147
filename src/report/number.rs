//! The numbers of a page: values, changes, durations, and the marks of an axis.

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

/// The round values in a range, about `count` of them, and how they are written.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<(f64, String)> {
    let step = nice((high - low) / count as f64);
    let first = (low / step).ceil();
    if !step.is_normal() || !first.is_finite() {
        return Vec::new();
    }
    let top = low.abs().max(high.abs());
    // The small addition keeps what rounding took from the last value.
    let values = (0..).map(|index| (first + f64::from(index)) * step).take_while(|value| *value <= high + step * 1e-6);
    values.take(3 * count).map(|value| (value, tick_label(value, step, top))).collect()
}

/// The nearest of 1, 2, 5, 10 times a power of ten.
pub fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [(1.4, 1.0), (3.2, 2.0), (7.1, 5.0)].into_iter().find(|(end, _)| step < end * power);
    factor.map_or(10.0, |(_, factor)| factor) * power
}

/// A value beside an axis whose marks are `step` apart and whose largest value is `top`.
fn tick_label(value: f64, step: f64, top: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    let exponent = |value: f64| (value.abs().log10() + 1e-9).floor() as i32;
    if !(1e-3..1e15).contains(&top) {
        return short(value, (exponent(value) - exponent(step)).max(0) as usize + 1);
    }
    let units = [(1e9, "G"), (1e6, "M"), (1e4, "k")];
    let (unit, suffix) = units.into_iter().find(|(unit, _)| top >= *unit).unwrap_or((1.0, ""));
    let unit = if suffix == "k" { 1e3 } else { unit };
    let decimals = (-exponent(step / unit)).max(0) as usize;
    format!("{:.decimals$}{suffix}", value / unit)
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

    #[test]
    fn ticks_are_round() {
        let labels = |low, high| ticks(low, high, 4).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ");
        assert_eq!(labels(0.0, 28.0), "0 5 10 15 20 25");
        assert_eq!(labels(-0.07, 0.31), "0 0.1 0.2 0.3");
        assert_eq!(labels(0.9993, 0.9999), "0.9994 0.9996 0.9998");
        assert_eq!(labels(0.0, 1e-5), "0 2e-6 4e-6 6e-6 8e-6 1e-5");
        assert_eq!(labels(19_000.0, 41_000.0), "20k 25k 30k 35k 40k");
        assert_eq!(labels(0.0, 1.2e6), "0 0.2M 0.4M 0.6M 0.8M 1.0M 1.2M");
        assert_eq!(labels(f64::NEG_INFINITY, 1.0), "");
        assert_eq!(labels(1.0, 1.0), "");
    }
}
