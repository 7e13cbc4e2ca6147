//! How often numbers come, in bins.

use super::number::{bounds, short};
use super::page::escape;

/// Numbers in a histogram.
pub struct Series<'a> {
    /// The run's number on the page, which gives the colour.
    pub run: usize,
    pub name: String,
    /// Whether others of its run come after it.
    pub is_early: bool,
    pub numbers: &'a [f64],
}

/// Bins at most, where numbers are many.
const BINS: usize = 24;

/// The shares of the numbers in each bin, as inline SVG that the page's script draws; nothing where there is none.
pub fn histogram(what: &str, series: &[Series]) -> String {
    let series: Vec<&Series> = series.iter().filter(|series| !series.numbers.is_empty()).collect();
    let all: Vec<f64> = series.iter().flat_map(|series| series.numbers).copied().collect();
    if all.is_empty() {
        return String::new();
    }
    let bins = Bins::of(&all);
    let joined = |numbers: Vec<f64>| {
        numbers.into_iter().map(|number| short(number, 4).replace(',', "")).collect::<Vec<_>>().join(" ")
    };
    let bars = |series: &&Series| {
        format!(
            "<path class=\"bars r{}{}\" data-name=\"{}\" data-shares=\"{}\"/>\n",
            series.run,
            if series.is_early { " early" } else { "" },
            escape(&series.name),
            joined(bins.shares(series.numbers))
        )
    };
    let said = |series: &&Series| {
        let (low, high) = bounds(series.numbers.iter().copied());
        let mean = series.numbers.iter().sum::<f64>() / series.numbers.len() as f64;
        format!("{}: from {} to {}, mean {}", series.name, short(low, 4), short(high, 4), short(mean, 4))
    };
    format!(
        "<svg class=\"histogram\" viewBox=\"0 0 360 210\" role=\"img\" aria-label=\"{}\" data-x=\"{what}\" \
         data-edges=\"{}\">\n{}</svg>",
        escape(&format!("{what}. {}", series.iter().map(said).collect::<Vec<_>>().join("; "))),
        joined((0..=bins.count).map(|edge| bins.first + edge as f64 * bins.width).collect()),
        series.iter().map(bars).collect::<String>(),
    )
}

/// Bins of one width.
struct Bins {
    first: f64,
    width: f64,
    count: usize,
}

impl Bins {
    /// Around each value where these are few and as if counted, such as rewards of 0 and 1; else over the range, a whole
    /// number wide where all numbers are whole.
    fn of(numbers: &[f64]) -> Self {
        let (low, high) = bounds(numbers.iter().copied());
        let mut values: Vec<f64> = numbers.to_vec();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let gaps = values.windows(2).map(|pair| pair[1] - pair[0]);
        let gap = gaps.fold(f64::INFINITY, f64::min);
        let gap = if gap.is_finite() { gap } else { 1.0 };
        if (high - low) / gap <= BINS as f64 {
            let count = ((high - low) / gap).round() as usize + 1;
            return Self { first: low - 0.5 * gap, width: gap, count };
        }
        let width = (high - low) / BINS as f64;
        let are_whole = numbers.iter().all(|number| number.fract() == 0.0);
        let width = if are_whole { width.ceil() } else { width };
        Self { first: low, width, count: ((high - low) / width).floor() as usize + 1 }
    }

    fn shares(&self, numbers: &[f64]) -> Vec<f64> {
        let mut counts = vec![0.0; self.count];
        for number in numbers {
            let bin = ((number - self.first) / self.width).floor() as usize;
            counts[bin.min(self.count - 1)] += 1.0 / numbers.len() as f64;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_a_bin_each_and_many_share_bins() {
        let rewards = [0.0, 1.0, 1.0, 0.0, 1.0];
        let bins = Bins::of(&rewards);
        assert_eq!((bins.first, bins.width, bins.count), (-0.5, 1.0, 2));
        let shares = bins.shares(&rewards);
        assert!((shares[0] - 0.4).abs() < 1e-12 && (shares[1] - 0.6).abs() < 1e-12, "{shares:?}");
        let lengths: Vec<f64> = (10..=200).map(f64::from).collect();
        let bins = Bins::of(&lengths);
        assert_eq!((bins.first, bins.width, bins.count), (10.0, 8.0, 24));
        let shares = bins.shares(&lengths);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12 && shares.iter().all(|share| *share > 0.0));
        let one = Bins::of(&[7.0, 7.0]);
        assert_eq!((one.first, one.width, one.count), (6.5, 1.0, 1));
    }
}
