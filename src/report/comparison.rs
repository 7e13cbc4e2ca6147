//! The page of runs: their curves, their last values and their configurations side by side.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::metrics::{Group, about};
use super::number::{duration, short};
use super::page::{Page, Part, escape, table};
use super::plot::{Line, Plot, Unit};
use super::run::{Curve, RunRecord};
use crate::format::format_bytes;

/// Colours of lines, as page.css has them; more runs take them again, dashed.
const COLOURS: usize = 8;
const DASHES: [&str; 4] = ["none", "7 3", "2 3", "10 3 2 3"];

/// The page of one run or several: an HTML file's text.
///
/// # Errors
/// Names the file, and the line, that cannot be read or is not what a run writes.
pub fn report(runs: &[PathBuf]) -> Result<String> {
    ensure!(!runs.is_empty(), "no run is named; give the output directory of at least one");
    let runs = RunRecord::read_all(runs)?;
    let names = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let heading = if runs.len() == 1 { escape(&names) } else { format!("{} runs side by side", runs.len()) };
    let title = format!("{names} · training report");
    Ok(Page { title: &title, kind: "Training report", heading: &heading, parts: &[comparison(&runs)] }.html())
}

/// The runs side by side.
pub(super) fn comparison(runs: &[RunRecord]) -> Part {
    let metrics = metrics_of(runs);
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let chips = if runs.len() > 1 { chips(&names) } else { String::new() };
    let body = [
        overview(runs),
        warnings(runs),
        chips,
        curves(runs, &metrics),
        last_values(runs, &metrics),
        configurations(runs),
    ];
    Part {
        body: body.concat(),
        style: include_str!("comparison.css").to_owned() + &colours(runs.len()),
        script: include_str!("comparison.js"),
    }
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

fn colours(runs: usize) -> String {
    let rule = |run: usize| {
        let (colour, dash) = (run % COLOURS, DASHES[run / COLOURS % DASHES.len()]);
        format!(
            ".r{run}{{--colour:var(--c{colour});--dash:{dash}}}\n\
             [data-lit=\"{run}\"] .line:not(.r{run}){{opacity:.1}}\n"
        )
    };
    (0..runs).map(rule).collect()
}

/// A run's colour, as a short line.
fn swatch(run: usize) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 22 6\" aria-hidden=\"true\"><path class=\"r{run}\" d=\"M1 3H21\"/></svg>"
    )
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
        let seconds = run.curve("seconds").map(|curve| curve.points.iter().map(|point| point.value).sum());
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

/// Plots of these runs, which buttons hide.
pub(super) fn plots(runs: &[&str], figures: &str) -> Part {
    Part {
        body: format!(
            "{}<section>\n<p id=\"plot-help\" class=\"legend\">{KEYS}</p>\n<div class=\"plots\">\n{figures}</div></section>\n",
            chips(runs)
        ),
        style: include_str!("comparison.css").to_owned() + &colours(runs.len()),
        script: include_str!("comparison.js"),
    }
}

const KEYS: &str = "In a plot, the left and right arrow keys go from step to step.";

/// A button a run, which hides it in all plots; under the pointer or the focus it stands out there.
fn chips(runs: &[&str]) -> String {
    let chip = |(index, name): (usize, &&str)| {
        format!(
            "<button class=\"chip\" data-run=\"{index}\" aria-pressed=\"true\">{} {}</button>\n",
            swatch(index),
            escape(name)
        )
    };
    let chips: String = runs.iter().enumerate().map(chip).collect();
    format!("<div class=\"bar\" role=\"group\" aria-label=\"Runs shown in the plots\">\n{chips}</div>\n")
}

fn curves(runs: &[RunRecord], metrics: &[&str]) -> String {
    let points = || runs.iter().flat_map(|run| &run.curves).flat_map(|curve| &curve.points);
    let first = points().map(|point| point.step).min().unwrap_or(0);
    let last = points().map(|point| point.step).max().unwrap_or(0);
    let figure = |metric: &str| {
        let line = |(run, record)| {
            let curve: &Curve = RunRecord::curve(record, metric)?;
            Some(Line { run, name: &record.name, points: &curve.points })
        };
        let lines: Vec<_> = runs.iter().enumerate().filter_map(line).collect();
        let largest = lines.iter().flat_map(|line| line.points).map(|point| point.value).fold(0.0, f64::max);
        let unit = if metric.ends_with("_bytes") { byte_unit(largest) } else { Unit::ONE };
        let plot = Plot { metric, unit, steps: first..=last, lines };
        let about = [about(metric), unit.name.trim()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        format!(
            "<figure class=\"card\"><figcaption><b>{}</b> <span>{}</span></figcaption>\n{}</figure>\n",
            escape(metric),
            about.join(", "),
            plot.svg()
        )
    };
    let section = |group: Group| {
        let figures: String = metrics.iter().filter(|metric| Group::of(metric) == group).map(|m| figure(m)).collect();
        match figures.as_str() {
            "" => String::new(),
            figures => {
                format!("<section><h2>{}</h2>\n<div class=\"plots\">\n{figures}</div></section>\n", group.title())
            }
        }
    };
    let sections = Group::ALL.map(section).concat();
    let pale =
        "Where a metric is noisy, its values are pale and their running mean, over a twentieth of the run, is strong. ";
    let pale = if sections.contains(" pale ") { pale } else { "" };
    format!("<p id=\"plot-help\" class=\"legend\">{pale}{KEYS}</p>\n{sections}")
}

/// The binary unit in which the largest value has at least one digit before the point.
fn byte_unit(largest: f64) -> Unit {
    let units = [(40, " TiB"), (30, " GiB"), (20, " MiB"), (10, " KiB")];
    let units = units.map(|(bits, name)| Unit { size: f64::from(bits).exp2(), name });
    units.into_iter().find(|unit| largest >= unit.size).unwrap_or(Unit { size: 1.0, name: " B" })
}

fn run_heads(runs: &[RunRecord]) -> String {
    let head = |(index, run): (usize, &RunRecord)| {
        format!("<th scope=\"col\" class=\"number\">{} {}</th>", swatch(index), escape(&run.name))
    };
    runs.iter().enumerate().map(head).collect()
}

/// Each metric's last value; what evaluations found comes first.
fn last_values(runs: &[RunRecord], metrics: &[&str]) -> String {
    let row = |metric: &str| {
        let cell = |run: &RunRecord| {
            let Some(last) = run.curve(metric).map(Curve::last) else {
                return "<td class=\"number none\">none</td>".into();
            };
            let value = if metric.ends_with("_bytes") { format_bytes(last.value as u64) } else { short(last.value, 4) };
            let early = last.step != run.last_step();
            let note = if early { format!(" <small>at step {}</small>", last.step) } else { String::new() };
            format!("<td class=\"number\">{value}{note}</td>")
        };
        let cells: String = runs.iter().map(cell).collect();
        format!("<tr><th scope=\"row\"><code>{}</code></th>{cells}</tr>\n", escape(metric))
    };
    let section = |group: Group| {
        let rows: String = metrics.iter().filter(|metric| Group::of(metric) == group).map(|m| row(m)).collect();
        let heading = format!("<tr><th scope=\"rowgroup\" colspan=\"{}\">{}</th></tr>", runs.len() + 1, group.title());
        if rows.is_empty() { rows } else { format!("<tbody>{heading}\n{rows}</tbody>\n") }
    };
    let mut groups = Group::ALL;
    groups.sort_by_key(|group| *group != Group::Evaluation);
    let head = format!("<th scope=\"col\">metric</th>{}", run_heads(runs));
    let body = groups.map(section).concat();
    format!("<section><h2>Last values</h2>\n{}</section>\n", table("Last values", &head, &body))
}

/// Each setting of every run; those that differ are marked and come first.
fn configurations(runs: &[RunRecord]) -> String {
    let keys: BTreeSet<&str> = runs.iter().flat_map(|run| &run.settings).map(|(key, _)| key.as_str()).collect();
    let differs = |key: &str| runs.iter().any(|run| run.setting(key) != runs[0].setting(key));
    let row = |key: &str| {
        let cell = |run: &RunRecord| match run.setting(key) {
            Some(value) => format!("<td>{}</td>", escape(value)),
            None => "<td class=\"none\">not set</td>".to_owned(),
        };
        let cells: String = runs.iter().map(cell).collect();
        let (class, mark) = if differs(key) {
            (" class=\"differs\"", "<span aria-hidden=\"true\">≠ </span><span class=\"unseen\">differs: </span>")
        } else {
            ("", "")
        };
        format!("<tr{class}><th scope=\"row\">{mark}<code>{}</code></th>{cells}</tr>\n", escape(key))
    };
    let (different, same): (Vec<&str>, Vec<&str>) = keys.into_iter().partition(|key| differs(key));
    let part = |title: &str, keys: &[&str]| {
        let rows: String = keys.iter().map(|key| row(key)).collect();
        let heading = format!("<tr><th scope=\"rowgroup\" colspan=\"{}\">{title}</th></tr>", runs.len() + 1);
        match (keys.is_empty(), runs.len()) {
            (true, _) => String::new(),
            (false, 1) => format!("<tbody>{rows}</tbody>\n"),
            (false, _) => format!("<tbody>{heading}\n{rows}</tbody>\n"),
        }
    };
    let body = part("Different", &different) + &part("The same in all runs", &same);
    let head = format!("<th scope=\"col\">setting</th>{}", run_heads(runs).replace(" class=\"number\"", ""));
    let title = if runs.len() == 1 { "Configuration" } else { "Configurations" };
    format!("<section><h2>{title}</h2>\n{}</section>\n", table(title, &head, &body))
}
