//! A page of tables and figures that somebody else made up.

use super::curves::{figure, plots};
use super::page::{Page, Part, escape, table};
use super::plot::{Line, Plot, Unit};

/// A table under a title.
pub struct Section {
    pub title: String,
    pub note: String,
    pub head: Vec<String>,
    /// Text; a cell a column.
    pub rows: Vec<Vec<String>>,
}

/// A plot of one quantity, a line a run.
pub struct Figure<'a> {
    pub name: &'a str,
    pub about: &'a str,
    /// At least one.
    pub lines: Vec<Line<'a>>,
}

impl Figure<'_> {
    /// The figure's element.
    pub fn html(self) -> String {
        let steps = || self.lines.iter().flat_map(|line| line.points).map(|point| point.step);
        let steps = steps().min().unwrap_or(0)..=steps().max().unwrap_or(0);
        figure(&Plot { metric: self.name, unit: Unit::ONE, steps, least: 0.0, lines: self.lines }, self.about)
    }
}

/// The page: the sections, then the figures with the names of their runs; an HTML file's text.
pub fn document(title: &str, sections: &[Section], runs: &[&str], figures: &[String]) -> String {
    let tables = Part::of(sections.iter().map(section).collect());
    let parts = [tables, plots(runs, &figures.concat())];
    Page { title, kind: "dqo-wgpu", heading: &escape(title), reload: None, parts: &parts }.html()
}

fn section(section: &Section) -> String {
    let head: String = section.head.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escape(cell))).collect();
    let row = |cells: &Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = section.rows.iter().map(row).collect();
    let table = table(&section.title, &head, &format!("<tbody>{rows}</tbody>"));
    format!("<section><h2>{}</h2>\n<p>{}</p>\n{table}</section>\n", escape(&section.title), escape(&section.note))
}
