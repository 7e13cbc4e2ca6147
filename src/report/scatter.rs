//! The plot of V against process rewards: a point a segment.

use super::number::{short, ticks};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Pairs of a process reward and V, all finite, as inline SVG; nothing where there is none.
pub fn scatter(pairs: &[(f64, f64)]) -> String {
    let Some(first) = pairs.first() else { return String::new() };
    let mut range = [(first.0, first.0), (first.1, first.1)];
    for &(x, y) in pairs {
        for ((low, high), value) in range.iter_mut().zip([x, y]) {
            (*low, *high) = (low.min(value), high.max(value));
        }
    }
    let [(x_low, x_high), (y_low, y_high)] = range.map(|(low, high)| {
        let margin = if high > low { 0.06 * (high - low) } else { 0.5 };
        (low - margin, high + margin)
    });
    let x = |value: f64| LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (y_high - value) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);
    let bottom = HEIGHT - BOTTOM;
    let rows = ticks(y_low, y_high, 4).into_iter().map(|(value, label)| {
        let y = y(value);
        format!(
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>\
             <text class=\"at-left\" x=\"{}\" y=\"{:.1}\">{label}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 3.5
        )
    });
    let columns = ticks(x_low, x_high, 4).into_iter().map(|(value, label)| {
        format!("<text class=\"below\" x=\"{:.1}\" y=\"{}\">{label}</text>\n", x(value), bottom + 16.0)
    });
    let points: String = pairs.iter().map(|pair| format!("M{:.1} {:.1}h0", x(pair.0), y(pair.1))).collect();
    let [x_from, x_to, y_from, y_to] = [range[0].0, range[0].1, range[1].0, range[1].1].map(|value| short(value, 3));
    format!(
        "<svg class=\"scatter\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} segments: process \
         rewards from {x_from} to {x_to}, V from {y_from} to {y_to}\">\n{}{}\
         <path class=\"axis\" d=\"M{LEFT} {bottom}H{}\"/>\n\
         <path class=\"points\" d=\"{points}\"/>\n<text class=\"below\" x=\"{}\" y=\"{}\">process reward</text>\
         <text class=\"at-left\" x=\"14\" y=\"{TOP}\">V</text></svg>",
        pairs.len(),
        rows.collect::<String>(),
        columns.collect::<String>(),
        WIDTH - RIGHT,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
    )
}
