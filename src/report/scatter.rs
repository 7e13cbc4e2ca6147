//! The plot of V against process rewards: a point a segment.

use super::number::{bounds, short};

/// What is known at the end of a segment; both are finite.
pub struct Judgement {
    pub process_reward: f64,
    /// V.
    pub value: f64,
}

/// The segments as inline SVG, whose points the page's script draws; nothing where there is none.
pub fn scatter(judgements: &[Judgement]) -> String {
    if judgements.is_empty() {
        return String::new();
    }
    let of = |number: fn(&Judgement) -> f64| {
        let text = judgements.iter().map(|judgement| short(number(judgement), 4).replace(',', ""));
        let (low, high) = bounds(judgements.iter().map(number));
        (text.collect::<Vec<_>>().join(" "), format!("from {} to {}", short(low, 3), short(high, 3)))
    };
    let (rewards, rewards_range) = of(|judgement| judgement.process_reward);
    let (values, values_range) = of(|judgement| judgement.value);
    format!(
        "<svg class=\"scatter\" viewBox=\"0 0 420 230\" role=\"img\" aria-label=\"{} segments: process rewards \
         {rewards_range}, V {values_range}\" data-x=\"process reward\" data-y=\"V\" data-across=\"{rewards}\" \
         data-up=\"{values}\"></svg>",
        judgements.len(),
    )
}
