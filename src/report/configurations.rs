//! The tables of runs: their last values, and their configurations side by side.

use std::collections::BTreeSet;

use super::curve::Curve;
use super::curves::swatch;
use super::metrics::Group;
use super::number::short;
use super::page::{escape, table};
use super::run::RunRecord;
use crate::format::format_bytes;

fn run_heads(runs: &[RunRecord], class: &str) -> String {
    let head = |(index, run): (usize, &RunRecord)| {
        format!("<th scope=\"col\"{class}>{} {}</th>", swatch(index), escape(&run.name))
    };
    runs.iter().enumerate().map(head).collect()
}

/// Each metric's last value; what evaluations found comes first.
pub fn last_values(runs: &[RunRecord], metrics: &[&str]) -> String {
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
    let head = format!("<th scope=\"col\">metric</th>{}", run_heads(runs, " class=\"number\""));
    let body = groups.map(section).concat();
    format!("<section><h2>Last values</h2>\n{}</section>\n", table("Last values", &head, &body))
}

/// The settings of the runs: those that differ, then the others, folded.
pub fn configurations(runs: &[RunRecord]) -> String {
    let keys: BTreeSet<&str> = runs.iter().flat_map(|run| &run.settings).map(|(key, _)| key.as_str()).collect();
    let differs = |key: &str| runs.iter().any(|run| run.setting(key) != runs[0].setting(key));
    let (different, same): (Vec<&str>, Vec<&str>) = keys.into_iter().partition(|key| differs(key));
    let (title, differing) = match (runs.len(), different.len()) {
        (1, _) => ("Configuration", String::new()),
        (_, 0) => ("Configurations", "<p>No setting differs between the runs.</p>\n".to_owned()),
        (_, _) => ("Configurations", settings("Settings that differ", runs, &different)),
    };
    let label = if runs.len() == 1 { "All settings" } else { "Settings that are the same in all runs" };
    let folded = match same.len() {
        0 => String::new(),
        count => format!(
            "<details class=\"folded\" data-keep=\"settings\"{}><summary>{label}: {count}</summary>\n{}</details>\n",
            if runs.len() == 1 { " open" } else { "" },
            settings(label, &runs[..1], &same)
        ),
    };
    format!("<section><h2>{title}</h2>\n{differing}{folded}</section>\n")
}

/// A table of settings, a column a run; of one run, whose values are those of all, without its name.
fn settings(label: &str, runs: &[RunRecord], keys: &[&str]) -> String {
    let row = |key: &&str| {
        let cell = |run: &RunRecord| match run.setting(key) {
            Some(value) => format!("<td>{}</td>", escape(value)),
            None => "<td class=\"none\">not set</td>".to_owned(),
        };
        let cells: String = runs.iter().map(cell).collect();
        format!("<tr><th scope=\"row\"><code>{}</code></th>{cells}</tr>\n", escape(key))
    };
    let rows: String = keys.iter().map(row).collect();
    let values = if runs.len() == 1 { "<th scope=\"col\">value</th>".to_owned() } else { run_heads(runs, "") };
    table(label, &format!("<th scope=\"col\">setting</th>{values}"), &format!("<tbody>{rows}</tbody>\n"))
}
