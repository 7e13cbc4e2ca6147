//! The plots of runs, and what their reader may choose of them.

use super::curve::Curve;
use super::metrics::{Group, about, least_span};
use super::page::{Part, escape};
use super::plot::{Line, Plot, Unit};
use super::run::RunRecord;
use super::thin::DRAWN_POINTS;

/// Colours of lines, as curves.css has them; more runs take them again.
const COLOURS: usize = 8;
const DASHES: [&str; 4] = ["none", "7 3", "2 3", "10 3 2 3"];

pub const STYLE: &str = include_str!("curves.css");
pub const SCRIPT: &str = concat!(include_str!("curves.js"), include_str!("readout.js"));

const KEYS: &str = "In a plot, the left and right arrow keys go from point to point. A plot's CSV has its points, of \
    more than 1,000 the least and the greatest of each column.";
const SMOOTHED: &str = "Where a curve is smoothed, its values are pale and their running mean is strong: over a \
    twentieth of the run where curves are noisy, or over the share that is chosen.";

/// The metrics of runs, a plot each.
pub fn curves(runs: &[RunRecord], metrics: &[&str]) -> String {
    let points = || runs.iter().flat_map(|run| &run.curves).flat_map(|curve| &curve.points);
    let first = points().map(|point| point.step).min().unwrap_or(0);
    let last = points().map(|point| point.step).max().unwrap_or(0);
    let figure = |metric: &str| {
        let line = |(run, record)| {
            let curve: &Curve = RunRecord::curve(record, metric)?;
            let cases = if metric == "eval/accuracy" { record.problems } else { None };
            Some(Line { run, name: &record.name, points: &curve.points, cases })
        };
        let lines: Vec<_> = runs.iter().enumerate().filter_map(line).collect();
        let largest = lines.iter().flat_map(|line| line.points).map(|point| point.value).fold(0.0, f64::max);
        let unit = if metric.ends_with("_bytes") { byte_unit(largest) } else { Unit::ONE };
        let interval =
            if lines.iter().any(|line| line.cases.is_some()) { "with Wilson's intervals of 95 %" } else { "" };
        let about = [about(metric), unit.name.trim(), interval].into_iter().filter(|text| !text.is_empty());
        let about = about.collect::<Vec<_>>().join(", ");
        figure(&Plot { metric, unit, steps: first..=last, least: least_span(metric), lines }, &about)
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
    format!("{}{}{}", clocks(runs), help(), Group::ALL.map(section).concat())
}

/// A plot with its name.
pub fn figure(plot: &Plot, about: &str) -> String {
    format!(
        "<figure class=\"card\"><figcaption><b>{}</b> <span>{}</span></figcaption>\n{}</figure>\n",
        escape(plot.metric),
        escape(about),
        plot.svg()
    )
}

/// Plots of runs by these names, of which nothing but steps is known.
pub fn plots(runs: &[&str], figures: &str) -> Part {
    Part {
        body: format!(
            "{}<section>\n{}<div class=\"plots\">\n{figures}</div></section>\n",
            controls(runs, false),
            help()
        ),
        style: STYLE.to_owned() + &colours(runs.len()),
        script: SCRIPT,
    }
}

/// The rules of the runs' colours and dashes.
pub fn colours(runs: usize) -> String {
    let rule = |run: usize| {
        let (colour, dash) = (run % COLOURS, DASHES[(run + run / COLOURS) % DASHES.len()]);
        format!(
            ".r{run}{{--colour:var(--c{colour});--dash:{dash}}}\n\
             [data-lit=\"{run}\"] .line:not(.r{run}){{opacity:.1}}\n"
        )
    };
    (0..runs).map(rule).collect()
}

/// A run's colour and dashes, as a short line.
pub fn swatch(run: usize) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 30 6\" aria-hidden=\"true\"><path class=\"r{run}\" d=\"M2 3H28\"/></svg>"
    )
}

/// What the reader may choose: where there are several runs, which are shown; and how all plots are drawn. `timed`: over
/// what.
pub fn controls(runs: &[&str], timed: bool) -> String {
    let select = |id: &str, name: &str, options: &[[&str; 2]]| {
        let option = |[value, text]: &[&str; 2]| format!("<option value=\"{value}\">{text}</option>");
        let options: String = options.iter().map(option).collect();
        format!("<label>{name} <select id=\"{id}\" data-keep=\"{id}\">{options}</select></label>\n")
    };
    let axis = [["steps", "steps"], ["tokens", "tokens"], ["seconds", "time"]];
    let axis = if timed { select("axis", "over", &axis) } else { String::new() };
    let smooth = [["auto", "where noisy"], ["none", "none"], ["light", "2 %"], ["medium", "5 %"], ["strong", "15 %"]];
    format!(
        "<div class=\"bar controls\">\n{}<div class=\"choices\" role=\"group\" aria-label=\"How plots are drawn\">\n\
         {axis}{}<button id=\"log\" data-keep=\"log\" aria-pressed=\"false\">log scale</button>\n</div></div>\n",
        if runs.len() > 1 { chips(runs) } else { String::new() },
        select("smooth", "smoothing", &smooth),
    )
}

/// A button a run, which hides it in all plots; under the pointer or the focus it stands out there.
fn chips(runs: &[&str]) -> String {
    let chip = |(index, name): (usize, &&str)| {
        format!(
            "<button class=\"chip\" data-run=\"{index}\" data-keep=\"run-{index}\" aria-pressed=\"true\">{} {}</button>\n",
            swatch(index),
            escape(name)
        )
    };
    let chips: String = runs.iter().enumerate().map(chip).collect();
    format!("<div class=\"choices\" role=\"group\" aria-label=\"Runs shown in the plots\">\n{chips}</div>\n")
}

fn help() -> String {
    format!("<p id=\"plot-help\" class=\"legend\">{SMOOTHED} {KEYS}</p>\n")
}

/// When each step was done, for the axes of tokens and time; of a long run so many steps, evenly.
fn clocks(runs: &[RunRecord]) -> String {
    let clock = |(run, record): (usize, &RunRecord)| {
        let clock = &record.clock;
        let every = clock.steps.len().div_ceil(DRAWN_POINTS).max(1);
        let last = clock.steps.len().saturating_sub(1);
        let is_kept = |index: usize| index.is_multiple_of(every) || index == last;
        let joined = |values: Vec<String>| {
            let kept = values.into_iter().enumerate().filter(|(index, _)| is_kept(*index));
            kept.map(|(_, text)| text).collect::<Vec<_>>().join(" ")
        };
        format!(
            "<i class=\"clock\" data-run=\"{run}\" data-steps=\"{}\" data-tokens=\"{}\" data-seconds=\"{}\"></i>\n",
            joined(clock.steps.iter().map(u64::to_string).collect()),
            joined(clock.tokens.iter().map(|tokens| format!("{tokens:.0}")).collect()),
            joined(clock.seconds.iter().map(|seconds| format!("{seconds:.3}")).collect()),
        )
    };
    let clocks: String = runs.iter().enumerate().map(clock).collect();
    format!("<div hidden>\n{clocks}</div>\n")
}

/// The binary unit in which the largest value has at least one digit before the point.
fn byte_unit(largest: f64) -> Unit {
    let units = [(40, " TiB"), (30, " GiB"), (20, " MiB"), (10, " KiB")];
    let units = units.map(|(bits, name)| Unit { size: f64::from(bits).exp2(), name });
    units.into_iter().find(|unit| largest >= unit.size).unwrap_or(Unit { size: 1.0, name: " B" })
}
