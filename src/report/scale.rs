//! The colours of values: bins of a diverging scale, from 0 to 1 or, at a switch, over the range of what a page shows.

use super::number::short;

/// How many colours there are; the middle one is neutral.
const BINS: usize = 21;

/// The range that the colours span; what lies beyond has the colour of its end.
#[derive(Clone, Copy)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
}

impl Scale {
    /// From 0 to 1, as outcomes are: the same colours on every page.
    pub const UNIT: Self = Self { low: 0.0, high: 1.0 };

    /// The range of these values, from their 2nd to their 98th percentile.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Self { low: percentile(&sorted, 0.02), high: percentile(&sorted, 0.98) }
    }

    /// The colours' classes of a value: that from 0 to 1, and that of this scale.
    pub fn classes(&self, value: f64) -> String {
        format!("v{} w{}", Self::UNIT.bin(value), self.bin(value))
    }

    fn bin(&self, value: f64) -> usize {
        let share = (value - self.low) / (self.high - self.low);
        // Without a range, as for a value that is not a number, there is nothing to tell apart.
        let share = if share.is_nan() { 0.5 } else { share.clamp(0.0, 1.0) };
        (share * (BINS - 1) as f64).round() as usize
    }

    /// The window of a drawing in which -V is down: its top and its height.
    pub fn window(&self) -> (f64, f64) {
        let margin = if self.high > self.low { 0.12 * (self.high - self.low) } else { 1.0 };
        (-self.high - margin, self.high - self.low + 2.0 * margin)
    }

    /// The rules of the classes: `--low` and `--high` mixed into `--middle`, in a space whose steps look even.
    pub fn rules() -> String {
        let middle = BINS / 2;
        let rule = |bin: usize| {
            let end = if bin < middle { "low" } else { "high" };
            let share = 100 * bin.abs_diff(middle) / middle;
            format!(
                "[data-scale=unit] .v{bin},[data-scale=own] .w{bin}\
                 {{background:color-mix(in oklab,var(--{end}) {share}%,var(--middle))}}\n"
            )
        };
        (0..BINS).map(rule).collect()
    }

    /// What the colours mean, and the switch between the scales.
    pub fn legend(&self) -> String {
        let swatch = |bin| format!("<i class=\"v{bin} w{bin}\"></i>");
        let swatches: String = (0..BINS).map(swatch).collect();
        let marks = |name: &str, scale: &Self| {
            let ends = [scale.low, 0.5 * (scale.low + scale.high), scale.high];
            let [low, middle, high] = ends.map(|value| short(value, 3));
            format!(
                "<div class=\"marks {name}\"><span>&le; {low}</span><span>{middle}</span><span>&ge; {high}</span></div>"
            )
        };
        format!(
            "<figure class=\"scale\"><figcaption>V</figcaption><div><div class=\"swatches\" aria-hidden=\"true\">{swatches}\
             </div>{}{}</div><button id=\"stretch\" aria-pressed=\"false\">this page's range</button>\
             </figure>\n",
            marks("unit", &Self::UNIT),
            marks("own", self),
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
        let bins = [-7.0, 2.0, 50.0, 98.0, 1e9, f64::NAN].map(|value| scale.bin(value));
        assert_eq!(bins, [0, 0, 10, 20, 20, 10]);
        assert_eq!(Scale::of([0.5, 0.5].into_iter()).bin(0.5), 10);
        assert_eq!(Scale::of(std::iter::empty()).bin(0.5), 20);
        assert_eq!(scale.classes(0.25), "v5 w0");
        assert_eq!(Scale::rules().matches("color-mix").count(), BINS);
    }
}
