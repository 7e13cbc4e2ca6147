//! The page of runs: what they did, their curves, their responses, their last values and their configurations.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::claim::claims;
use super::configurations::{configurations, last_values};
use super::curves::{SCRIPT, STYLE, colours, controls, curves, swatch};
use super::metrics::Group;
use super::number::{duration, short};
use super::page::{Page, Part, escape, table};
use super::responses::responses;
use super::run::RunRecord;

/// The page of one run or several: an HTML file's text. With `reload`, it is read again after so many seconds, as long as
/// the browser shows it.
///
/// # Errors
/// Names the file, and the line, that cannot be read or is not what a run writes.
pub fn report(runs: &[PathBuf], reload: Option<u32>) -> Result<String> {
    ensure!(!runs.is_empty(), "no run is named; give the output directory of at least one");
    let runs = RunRecord::read_all(runs)?;
    let names = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let heading = if runs.len() == 1 { escape(&names) } else { format!("{} runs side by side", runs.len()) };
    let title = format!("{names} · training report");
    let parts = [Part::of(claims(&runs)), comparison(&runs), Part::of(configurations(&runs))];
    Ok(Page { title: &title, kind: "Training report", heading: &heading, reload, parts: &parts }.html())
}

/// The runs side by side.
pub(super) fn comparison(runs: &[RunRecord]) -> Part {
    let metrics = metrics_of(runs);
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let is_timed = runs.iter().any(|run| !run.clock.tokens.is_empty() || !run.clock.seconds.is_empty());
    let body = [
        overview(runs),
        warnings(runs),
        controls(&names, is_timed),
        curves(runs, &metrics),
        responses(runs),
        last_values(runs, &metrics),
    ];
    let style = [STYLE, include_str!("comparison.css"), &colours(runs.len())].concat();
    Part { body: body.concat(), style, script: SCRIPT }
}

/// The names of all runs' metrics, by group; in a group as the files have them.
fn metrics_of(runs: &[RunRecord]) -> Vec<&str> {
    let mut metrics: Vec<&str> = Vec::new();
    for curve in runs.iter().flat_map(|run| &run.curves) {
        if !metrics.contains(&curve.metric.as_str()) {
            metrics.push(&curve.metric);
        }
    }
    metrics.sort_by_key(|metric| Group::of(metric));
    metrics
}

fn overview(runs: &[RunRecord]) -> String {
    let head: String = ["run", "directory", "method", "model", "data", "steps", "epochs", "tokens", "time"]
        .map(|name| format!("<th scope=\"col\">{name}</th>"))
        .concat();
    let row = |(index, run): (usize, &RunRecord)| {
        let last = |metric| run.curve(metric).map(|curve| curve.last().value);
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| short(value, 4));
        let setting = |key| run.setting(key).unwrap_or_default();
        // A path may be broken after its slashes.
        let path = |text: &str| escape(text).replace('/', "/<wbr>");
        let seconds = run.clock.seconds.last().copied();
        format!(
            "<tr><th scope=\"row\">{} {}</th><td class=\"path\">{}</td><td>{}</td><td class=\"path\">{}</td>\
             <td class=\"path\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td></tr>\n",
            swatch(index),
            escape(&run.name),
            path(&run.path.display().to_string()),
            escape(setting("method")),
            path(setting("model")),
            path(setting("data")),
            short(run.last_step() as f64, 4),
            number(last("epoch")),
            number(last("num_tokens")),
            seconds.map_or_else(String::new, duration),
        )
    };
    let rows: String = runs.iter().enumerate().map(row).collect();
    let title = if runs.len() == 1 { "The run" } else { "The runs" };
    format!("<section><h2>{title}</h2>\n{}</section>\n", table("The runs", &head, &format!("<tbody>{rows}</tbody>")))
}

/// What each run warned of, where any did.
fn warnings(runs: &[RunRecord]) -> String {
    let of_run = |(index, run): (usize, &RunRecord)| {
        let item =
            |warning: &String| format!("<li>{} {}: {}</li>\n", swatch(index), escape(&run.name), escape(warning));
        run.warnings.iter().map(item).collect::<String>()
    };
    match runs.iter().enumerate().map(of_run).collect::<String>() {
        items if items.is_empty() => items,
        items => format!("<section><h2>Warnings</h2>\n<ul>\n{items}</ul></section>\n"),
    }
}
