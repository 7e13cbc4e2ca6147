//! The page of values: V along each response, token by token and at the ends of segments.

use super::number::{short, signed};
use super::page::{Page, Part, escape, shortened, table};
use super::response::{Correlation, ValuedResponse, ValuedSegment, ValuedToken};
use super::scale::Scale;
use super::summary::summary;

/// Longer prompts are folded.
const PROMPT_LENGTH: usize = 160;
const SEGMENT_LENGTH: usize = 90;

/// The page of these responses: an HTML file's text.
pub fn values_page(title: &str, responses: &[ValuedResponse], correlation: Option<&Correlation>) -> String {
    let part = valued_responses(responses, correlation);
    Page { title, kind: "Values along responses", heading: &escape(title), reload: None, parts: &[part] }.html()
}

/// The responses, coloured by V.
pub(super) fn valued_responses(responses: &[ValuedResponse], correlation: Option<&Correlation>) -> Part {
    let scale = scale(responses);
    let articles: String =
        responses.iter().enumerate().map(|(index, response)| article(index + 1, response, &scale)).collect();
    let empty = if responses.is_empty() { "<p>There are no responses.</p>\n" } else { "" };
    let body = format!(
        "{}<div class=\"responses\" data-show=\"all\" data-scale=\"unit\">\n<div class=\"bar\">{}{}</div>\n{empty}{articles}</div>\n",
        summary(responses, correlation),
        filter(responses),
        scale.legend(),
    );
    let style = include_str!("values.css").to_owned() + &Scale::rules();
    Part { body, style, script: include_str!("values.js") }
}

fn scale(responses: &[ValuedResponse]) -> Scale {
    Scale::of(responses.iter().flat_map(|response| &response.tokens).map(|token| token.value))
}

/// A response of these without its table, as an example.
pub(super) fn example(responses: &[ValuedResponse], response: &ValuedResponse, note: &str) -> String {
    let scale = scale(responses);
    format!(
        "<div data-scale=\"unit\"><article class=\"card\" id=\"example\"><header><small>{note}</small></header>\n{}{}\
         </article></div>\n",
        prompt(&response.prompt),
        text(response, "Tokens of the example", &scale),
    )
}

/// The line of V, and the tokens in its colours.
fn text(response: &ValuedResponse, label: &str, scale: &Scale) -> String {
    let wrong = response.first_wrong.and_then(|segment| response.segments.get(segment));
    let wrong = wrong.map_or(0..0, |segment| segment.first..segment.end);
    let tokens = response.tokens.iter().enumerate();
    let tokens: String = tokens.map(|(index, token)| span(index, token, wrong.contains(&index), scale)).collect();
    format!(
        "<div class=\"side\">{}<div class=\"text\" dir=\"auto\" role=\"group\" aria-label=\"{label}; the arrow keys go \
         from one to the next\">{tokens}</div></div>\n",
        sparkline(response, scale)
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
    format!(
        "<article class=\"card\" id=\"response-{number}\" data-right=\"{kind}\">\n\
         <header><h2>Response {number}</h2> <span class=\"badge\">{badge}</span> \
         <small>{reward}{} tokens · line {}</small></header>\n{}\
         <div class=\"sides\">{}{}</div></article>\n",
        response.tokens.len(),
        response.line,
        prompt(&response.prompt),
        text(response, &format!("Tokens of response {number}"), scale),
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
fn span(index: usize, token: &ValuedToken, is_wrong: bool, scale: &Scale) -> String {
    let stop = if index == 0 { " tabindex=\"0\"" } else { "" };
    let advantage = token.advantage.map_or_else(|| "-".to_owned(), |advantage| signed(advantage, 3));
    // A line break has no width of its own: the mark before it is what the pointer finds.
    let text = escape(&token.text).replace('\n', "<i></i>\n");
    format!(
        "<span class=\"{}{}\"{stop} data-t=\"{} {} {advantage} {}\">{text}</span>",
        scale.classes(token.value),
        if is_wrong { " slip" } else { "" },
        short(token.value, 4),
        signed(token.change, 3),
        short(token.step_reward, 3)
    )
}

/// V along the response, drawn in V itself: the window on it is that of the scale, which the page's script changes.
/// Segments' ends are marked, and the first wrong segment.
fn sparkline(response: &ValuedResponse, scale: &Scale) -> String {
    let values: Vec<f64> = response.tokens.iter().map(|token| token.value).collect();
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return String::new() };
    let [unit, own] = [Scale::UNIT, *scale].map(|scale| scale.window());
    let (top, height) = (unit.0.min(own.0), (unit.0 + unit.1).max(own.0 + own.1) - unit.0.min(own.0));
    let points = values.iter().enumerate().filter(|(_, value)| value.is_finite());
    let points: Vec<String> =
        points.map(|(index, value)| format!("{},{:.4}", index as f64 + 0.5, -value.clamp(-1e6, 1e6))).collect();
    let end = |segment: &ValuedSegment| format!("M{} {top}v{height}", segment.end);
    let ends: String = response.segments.iter().map(end).collect();
    let wrong =
        response.first_wrong.and_then(|segment| response.segments.get(segment)).map_or_else(String::new, |wrong| {
            let (first, width) = (wrong.first, wrong.end - wrong.first);
            format!("<rect class=\"slip\" x=\"{first}\" width=\"{width}\" y=\"{top}\" height=\"{height}\"/>")
        });
    let (first, last, length) = (short(*first, 3), short(*last, 3), values.len());
    let window = |(top, height): (f64, f64)| format!("0 {top:.4} {length} {height:.4}");
    format!(
        "<svg class=\"spark\" viewBox=\"{0}\" data-unit=\"{0}\" data-own=\"{1}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"V along the response, from {first} to {last}\">{wrong}<path class=\"ends\" d=\"{ends}\"/>\
         <path class=\"half\" d=\"M0 -0.5H{length}\"/><polyline points=\"{2}\"/>\
         <line class=\"here\" y1=\"{top}\" y2=\"{3}\"/></svg>\n",
        window(unit),
        window(own),
        points.join(" "),
        top + height
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
        let is_first_wrong = response.first_wrong == Some(index);
        let mark = if is_first_wrong { " <b class=\"slip\">first wrong step</b>" } else { "" };
        format!(
            "<tr data-first=\"{}\" data-end=\"{}\"><td class=\"number\">{}</td><td dir=\"auto\">{}{mark}</td>\
             <td class=\"number\"><span class=\"{}\">{}</span></td>{reward}</tr>\n",
            segment.first,
            segment.end,
            index + 1,
            escape(&shortened(&segment.text, SEGMENT_LENGTH)),
            scale.classes(segment.value),
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
