//! The page of values: V along each response, token by token and at the ends of segments.

use super::number::{short, signed};
use super::page::{Page, Part, escape, shortened, table};
use super::scale::Scale;
use super::scatter::{Judgement, scatter};

/// A response with the value network's V of the state before each token.
pub struct ValuedResponse {
    /// The row's line in its file.
    pub line: usize,
    pub prompt: String,
    pub tokens: Vec<ValuedToken>,
    pub segments: Vec<ValuedSegment>,
    pub reward: Option<f64>,
    /// Whether the answer was right, where it was judged.
    pub right: Option<bool>,
}

/// A token of a response.
pub struct ValuedToken {
    /// As it is; may be empty, or a part of a character.
    pub text: String,
    /// V of the state before the token.
    pub value: f64,
    /// V of the state after it less `value`; for the last token, the reward less `value`.
    pub change: f64,
    pub advantage: Option<f64>,
    /// The process reward at this token.
    pub step_reward: f64,
}

/// A part of a response, such as a line.
pub struct ValuedSegment {
    pub text: String,
    /// Its first token.
    pub first: usize,
    /// The token after its last.
    pub end: usize,
    /// V at its end.
    pub value: f64,
    pub process_reward: Option<f64>,
}

/// How far V and process rewards go together.
pub struct Correlation {
    pub pearson: f64,
    pub spearman: f64,
    /// The number of segments.
    pub count: usize,
}

/// Longer prompts are folded.
const PROMPT_LENGTH: usize = 160;
const SEGMENT_LENGTH: usize = 90;

/// The page of these responses: an HTML file's text.
pub fn values_page(title: &str, responses: &[ValuedResponse], correlation: Option<&Correlation>) -> String {
    let part = valued_responses(responses, correlation);
    Page { title, kind: "Values along responses", heading: &escape(title), parts: &[part] }.html()
}

/// The responses, coloured by V.
pub(super) fn valued_responses(responses: &[ValuedResponse], correlation: Option<&Correlation>) -> Part {
    let scale = Scale::of(responses.iter().flat_map(|response| &response.tokens).map(|token| token.value));
    let articles: String =
        responses.iter().enumerate().map(|(index, response)| article(index + 1, response, &scale)).collect();
    let empty = if responses.is_empty() { "<p>There are no responses.</p>\n" } else { "" };
    let body = format!(
        "{}<div class=\"responses\" data-show=\"all\">\n<div class=\"bar\">{}{}</div>\n{empty}{articles}</div>\n",
        summary(responses, correlation),
        filter(responses),
        scale.legend(),
    );
    let style = include_str!("values.css").to_owned() + &Scale::rules();
    Part { body, style, script: include_str!("values.js") }
}

/// Figures over the page, and the correlation where it is known.
fn summary(responses: &[ValuedResponse], correlation: Option<&Correlation>) -> String {
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
    let figures: String =
        figures.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n")).collect();
    format!("<section class=\"summary\"><dl class=\"card\">\n{figures}</dl>\n{plot}</section>\n")
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

/// The choice between right, wrong and all responses, where some were judged.
fn filter(responses: &[ValuedResponse]) -> String {
    let count = |right| responses.iter().filter(|response| response.right == Some(right)).count();
    let (right, wrong) = (count(true), count(false));
    if right + wrong == 0 {
        return String::new();
    }
    let button = |name: &str, mark: &str, count: usize| {
        format!(
            "<button data-show=\"{name}\" aria-pressed=\"{}\">\
             <span aria-hidden=\"true\">{mark}</span>{name} {count}</button>\n",
            name == "all"
        )
    };
    format!(
        "<div class=\"filter\" role=\"group\" aria-label=\"Responses shown\">\n{}{}{}</div>\n",
        button("all", "", responses.len()),
        button("right", "✓ ", right),
        button("wrong", "✗ ", wrong)
    )
}

fn article(number: usize, response: &ValuedResponse, scale: &Scale) -> String {
    let (kind, badge) = match response.right {
        Some(true) => ("right", "✓ right"),
        Some(false) => ("wrong", "✗ wrong"),
        None => ("unjudged", "not judged"),
    };
    let reward = response.reward.map_or_else(String::new, |reward| format!("reward {} · ", short(reward, 4)));
    let tokens: String = response.tokens.iter().enumerate().map(|(index, token)| span(index, token, scale)).collect();
    format!(
        "<article class=\"card\" id=\"response-{number}\" data-right=\"{kind}\">\n\
         <header><h2>Response {number}</h2> <span class=\"badge\">{badge}</span> \
         <small>{reward}{} tokens · line {}</small></header>\n{}\
         <div class=\"sides\"><div class=\"side\">{}\
         <div class=\"text\" dir=\"auto\" role=\"group\" aria-label=\"Tokens of response {number}; the arrow \
         keys go from one to the next\">{tokens}</div></div>\n{}</div></article>\n",
        response.tokens.len(),
        response.line,
        prompt(&response.prompt),
        sparkline(response, scale),
        segments(response, number, scale),
    )
}

fn prompt(text: &str) -> String {
    let short = shortened(text, PROMPT_LENGTH);
    if short == text {
        return format!("<p class=\"prompt\">{}</p>\n", escape(text));
    }
    format!(
        "<details class=\"prompt\"><summary>{}</summary><div class=\"whole\" dir=\"auto\">{}</div></details>\n",
        escape(&short),
        escape(text)
    )
}

/// A token: its colour as a class, its numbers as data for the tooltip. The first one is where the Tab key stops.
fn span(index: usize, token: &ValuedToken, scale: &Scale) -> String {
    let stop = if index == 0 { " tabindex=\"0\"" } else { "" };
    let advantage = token.advantage.map_or_else(|| "-".to_owned(), |advantage| signed(advantage, 3));
    // A line break has no width of its own: the mark before it is what the pointer finds.
    let text = escape(&token.text).replace('\n', "<i></i>\n");
    format!(
        "<span class=\"{}\"{stop} data-t=\"{} {} {advantage} {}\">{text}</span>",
        scale.class(token.value),
        short(token.value, 4),
        signed(token.change, 3),
        short(token.step_reward, 3)
    )
}

/// V along the response, on the same scale in all responses; segments' ends are marked.
fn sparkline(response: &ValuedResponse, scale: &Scale) -> String {
    let values: Vec<f64> = response.tokens.iter().map(|token| token.value).collect();
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return String::new() };
    let margin = if scale.high > scale.low { 0.12 * (scale.high - scale.low) } else { 1.0 };
    let y = |value: f64| 40.0 * (scale.high + margin - value) / (scale.high - scale.low + 2.0 * margin);
    let points = values.iter().enumerate().filter(|(_, value)| value.is_finite());
    let points: Vec<String> =
        points.map(|(index, value)| format!("{},{:.2}", index as f64 + 0.5, y(*value).clamp(-9.0, 49.0))).collect();
    let ends: String = response.segments.iter().map(|segment| format!("M{} 0V40", segment.end)).collect();
    let (first, last, length) = (short(*first, 3), short(*last, 3), values.len());
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {length} 40\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"V along the response, from {first} to {last}\"><path class=\"ends\" d=\"{ends}\"/>\
         <path class=\"half\" d=\"M0 20H{length}\"/><polyline points=\"{}\"/>\
         <line class=\"here\" y1=\"0\" y2=\"40\"/></svg>\n",
        points.join(" ")
    )
}

fn segments(response: &ValuedResponse, number: usize, scale: &Scale) -> String {
    if response.segments.is_empty() {
        return String::new();
    }
    let rewarded = response.segments.iter().any(|segment| segment.process_reward.is_some());
    let row = |(index, segment): (usize, &ValuedSegment)| {
        let reward = segment.process_reward.map_or_else(|| "none".to_owned(), |reward| short(reward, 3));
        let reward = if rewarded { format!("<td class=\"number\">{reward}</td>") } else { String::new() };
        format!(
            "<tr data-first=\"{}\" data-end=\"{}\"><td class=\"number\">{}</td><td dir=\"auto\">{}</td>\
             <td class=\"number\"><span class=\"{}\">{}</span></td>{reward}</tr>\n",
            segment.first,
            segment.end,
            index + 1,
            escape(&shortened(&segment.text, SEGMENT_LENGTH)),
            scale.class(segment.value),
            short(segment.value, 3),
        )
    };
    let rows: String = response.segments.iter().enumerate().map(row).collect();
    let process = if rewarded { "<th scope=\"col\" class=\"number\">process reward</th>" } else { "" };
    let head = format!(
        "<th scope=\"col\" class=\"number\">#</th><th scope=\"col\">segment</th>\
         <th scope=\"col\" class=\"number\">V at its end</th>{process}"
    );
    table(&format!("Segments of response {number}"), &head, &format!("<tbody>\n{rows}</tbody>"))
}
