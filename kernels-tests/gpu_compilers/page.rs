//! The page of what the compilers make: `docs/gpu-compilers.md`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::figures::{FIGURES, Report, Row};

const BEGIN: &str = "<!-- compilers -->\n";
const END: &str = "<!-- end of compilers -->";

/// The sizes of heads that the page has: those of models. The tests have others.
const HEAD_DIMS: [u32; 4] = [64, 96, 128, 256];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gpu-compilers.md")
}

/// The page before its tables, its tables, and what follows them.
fn parts() -> [String; 3] {
    let text = std::fs::read_to_string(path()).unwrap();
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (tables, after)) = parts.unwrap_or_else(|| panic!("{} has no {BEGIN}", path().display()));
    [before, tables, after].map(str::to_owned)
}

/// Writes the tables into the page.
pub fn write(reports: &[Report]) {
    let [before, _, after] = parts();
    std::fs::write(path(), format!("{before}{BEGIN}{}{END}{after}", tables(reports))).unwrap();
}

/// Whether no table of the page is by another driver than these.
pub fn is_of(reports: &[Report]) -> bool {
    let [_, tables, _] = parts();
    let mut headings = tables.lines().filter(|line| line.starts_with("## "));
    headings.all(|heading| reports.iter().any(|report| heading.ends_with(&report.driver)))
}

/// The lines of the page that are not today's, times apart.
pub fn differences(reports: &[Report]) -> Vec<String> {
    let [_, tables_of_page, _] = parts();
    let (page, today) = (without_times(&tables_of_page), without_times(&tables(reports)));
    let line = |mark: &'static str| move |(gpu, line): &(String, String)| format!("{mark} {gpu} {line}");
    let old = page.difference(&today).map(line("-"));
    old.chain(today.difference(&page).map(line("+"))).collect()
}

/// The rows of the tables, each with its compiler.
fn without_times(tables: &str) -> BTreeSet<(String, String)> {
    let mut gpu = String::new();
    let mut rows = BTreeSet::new();
    for line in tables.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            gpu = heading.split(':').next().unwrap_or_default().to_owned();
        } else if let Some((row, _)) = line.strip_suffix(" |").and_then(|line| line.rsplit_once(" | ")) {
            rows.insert((gpu.clone(), row.to_owned()));
        }
    }
    rows
}

fn tables(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let rows = report.rows.iter().filter(|row| row.head_dim.is_none_or(|size| HEAD_DIMS.contains(&size)));
        let seconds: f64 = report.rows.iter().map(|row| row.seconds).sum();
        writeln!(text, "\n## {}: {}, {}\n", report.gpu, report.name.trim(), report.driver).unwrap();
        writeln!(text, "{} pipelines in {seconds:.1} s.\n", report.rows.len()).unwrap();
        let titles: Vec<String> = FIGURES.iter().map(|(figure, _)| figure.replace('_', " ")).collect();
        writeln!(text, "| pipeline | {} | ms |\n|---|{}--:|", titles.join(" | "), "--:|".repeat(FIGURES.len()))
            .unwrap();
        rows.for_each(|row| text += &line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let value = |&(figure, _): &(&str, &[&[&str]])| match row.figures.get(figure) {
        Some(value) if figure.ends_with("_share") => format!("{value:.1} %"),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let values: Vec<String> = FIGURES.iter().map(value).collect();
    format!("| {} | {} | {:.0} |\n", row.pipeline, values.join(" | "), 1e3 * row.seconds)
}
