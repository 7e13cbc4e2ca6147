//! What a page of values says at its top: means, how well V tells right from wrong, its correlation with process rewards.

use super::areas::{RocArea, outcome_area, segment_area};
use super::number::short;
use super::response::{Correlation, Slip, ValuedResponse, slips};
use super::scatter::{Judgement, scatter};

const OF_OUTCOME: &str = "the area under the ROC curve of V of the state before a response's last token, which is the last \
    state that the network sees, against whether the response is right";
const OF_SEGMENTS: &str =
    "the area under the ROC curve of V at the end of a segment, against whether its process reward is above 0";

/// Figures over the page, and the correlation where it is known.
pub fn summary(responses: &[ValuedResponse], correlation: Option<&Correlation>) -> String {
    let tokens: usize = responses.iter().map(|response| response.tokens.len()).sum();
    let mean = |right: bool| {
        let values: Vec<f64> = responses
            .iter()
            .filter(|response| response.right == Some(right))
            .flat_map(|response| response.tokens.iter().map(|token| token.value))
            .filter(|value| value.is_finite())
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        if values.is_empty() { "none".to_owned() } else { short(mean, 3) }
    };
    let mut figures = vec![("responses", short(responses.len() as f64, 4)), ("tokens", short(tokens as f64, 4))];
    if responses.iter().any(|response| response.right.is_some()) {
        figures.extend([("mean V in right responses", mean(true)), ("mean V in wrong responses", mean(false))]);
    }
    let mut plot = String::new();
    if let Some(correlation) = correlation {
        figures.push(("Pearson's correlation", short(correlation.pearson, 3)));
        figures.push(("Spearman's correlation", short(correlation.spearman, 3)));
        plot = correlation_plot(responses, correlation.count);
    }
    let slips = slips(responses);
    if !slips.is_empty() {
        let mean = |of: fn(&Slip) -> f64| short(slips.iter().map(of).sum::<f64>() / slips.len() as f64, 3);
        figures.push(("mean V before the first wrong step", mean(|slip| slip.before)));
        figures.push(("mean V at its end", mean(|slip| slip.after)));
    }
    let mut notes = String::new();
    for (name, area, is_of) in [
        ("AUC of the outcome", outcome_area(responses), OF_OUTCOME),
        ("AUC of segments", segment_area(responses), OF_SEGMENTS),
    ] {
        let Some(RocArea { area, right, wrong }) = area else { continue };
        figures.push((name, short(area, 3)));
        notes += &format!("<p>{name}: {is_of}; {right} are, {wrong} are not.</p>\n");
    }
    let figures: String =
        figures.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n")).collect();
    let notes = if notes.is_empty() { notes } else { format!("<div class=\"notes\">{notes}</div>\n") };
    format!("<section class=\"summary\"><dl class=\"card\">\n{figures}</dl>\n{plot}{notes}</section>\n")
}

fn correlation_plot(responses: &[ValuedResponse], count: usize) -> String {
    let segments = responses.iter().flat_map(|response| &response.segments);
    let judged = segments
        .filter_map(|segment| Some(Judgement { process_reward: segment.process_reward?, value: segment.value }))
        .filter(|at| at.process_reward.is_finite() && at.value.is_finite());
    let plot = scatter(&judged.collect::<Vec<_>>());
    format!(
        "<figure class=\"card\"><figcaption><b>V at the end of a segment against its process reward</b> \
         <span>correlations over {} segments</span></figcaption>\n{plot}</figure>\n",
        short(count as f64, 4)
    )
}
