//! The colours of values: bins of a diverging scale, from the 2nd to the 98th percentile of what a page shows.

use super::number::short;

/// How many colours there are; the middle one is neutral.
const BINS: usize = 21;

/// The range that the colours span; what lies beyond has the colour of its end.
pub struct Scale {
    pub low: f64,
    pub high: f64,
}

impl Scale {
    /// The scale of a page with these values.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Self { low: percentile(&sorted, 0.02), high: percentile(&sorted, 0.98) }
    }

    /// The colour's class of a value.
    pub fn class(&self, value: f64) -> String {
        let share = (value - self.low) / (self.high - self.low);
        // Without a range, as for a value that is not a number, there is nothing to tell apart.
        let share = if share.is_nan() { 0.5 } else { share.clamp(0.0, 1.0) };
        format!("v{}", (share * (BINS - 1) as f64).round() as usize)
    }

    /// The rules of the classes: `--low` and `--high` mixed into `--middle`, in a space whose steps look even.
    pub fn rules() -> String {
        let middle = BINS / 2;
        let rule = |bin: usize| {
            let end = if bin < middle { "low" } else { "high" };
            let share = 100 * bin.abs_diff(middle) / middle;
            format!(".v{bin}{{background:color-mix(in oklab,var(--{end}) {share}%,var(--middle))}}\n")
        };
        (0..BINS).map(rule).collect()
    }

    /// What the colours mean.
    pub fn legend(&self) -> String {
        let swatch = |bin| format!("<i class=\"v{bin}\"></i>");
        let swatches: String = (0..BINS).map(swatch).collect();
        let [low, middle, high] = [self.low, 0.5 * (self.low + self.high), self.high].map(|value| short(value, 3));
        format!(
            "<figure class=\"scale\"><figcaption>V</figcaption><div role=\"img\" aria-label=\"Colours of V from {low} \
             over {middle} to {high}\"><div class=\"swatches\">{swatches}</div><div class=\"marks\"><span>&le; {low}\
             </span><span>{middle}</span><span>&ge; {high}</span></div></div></figure>\n"
        )
    }
}

/// Between the two values around the place, in proportion.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_spans_the_bulk_and_clamps_the_rest() {
        let scale = Scale::of((0..=100).map(f64::from).chain([f64::NAN, f64::INFINITY]));
        assert_eq!((scale.low, scale.high), (2.0, 98.0));
        let classes = [-7.0, 2.0, 50.0, 98.0, 1e9, f64::NAN].map(|value| scale.class(value));
        assert_eq!(classes, ["v0", "v0", "v10", "v20", "v20", "v10"]);
        assert_eq!(Scale::of([0.5, 0.5].into_iter()).class(0.5), "v10");
        assert_eq!(Scale::of(std::iter::empty()).class(0.5), "v20");
        assert_eq!(Scale::rules().matches("color-mix").count(), BINS);
    }
}
