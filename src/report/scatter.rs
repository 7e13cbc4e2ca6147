//! The plot of V against process rewards: a point a segment.

use super::number::{bounds, short, ticks};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// What is known at the end of a segment; both are finite.
pub struct Judgement {
    pub process_reward: f64,
    /// V.
    pub value: f64,
}

/// The segments as inline SVG; nothing where there is none.
pub fn scatter(judgements: &[Judgement]) -> String {
    if judgements.is_empty() {
        return String::new();
    }
    let rewards = bounds(judgements.iter().map(|judgement| judgement.process_reward));
    let values = bounds(judgements.iter().map(|judgement| judgement.value));
    let [(x_low, x_high), (y_low, y_high)] = [rewards, values].map(|(low, high)| {
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
    let point = |at: &Judgement| format!("M{:.1} {:.1}h0", x(at.process_reward), y(at.value));
    let points: String = judgements.iter().map(point).collect();
    let [x_from, x_to, y_from, y_to] = [rewards.0, rewards.1, values.0, values.1].map(|value| short(value, 3));
    format!(
        "<svg class=\"scatter\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} segments: process \
         rewards from {x_from} to {x_to}, V from {y_from} to {y_to}\">\n{}{}\
         <path class=\"axis\" d=\"M{LEFT} {bottom}H{}\"/>\n\
         <path class=\"points\" d=\"{points}\"/>\n<text class=\"below\" x=\"{}\" y=\"{}\">process reward</text>\
         <text class=\"at-left\" x=\"14\" y=\"{TOP}\">V</text></svg>",
        judgements.len(),
        rows.collect::<String>(),
        columns.collect::<String>(),
        WIDTH - RIGHT,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
    )
}
