//! The results as Markdown, in the written account, and as a page.

use std::path::Path;

use anyhow::{Context, Result};
use dqo_wgpu::files::write_file;
use dqo_wgpu::report::{Figure, Line, Point, Section, document};

use crate::experiments::Results;
use crate::knowledge::Knowledge;
use crate::tables::tables;

/// Puts tables between the marks of the written account that are for them.
pub fn write_markdown(path: &Path, mark: &str, tables: Vec<Section>) -> Result<()> {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let marks = text.find(&begin).map(|place| place + begin.len()).zip(text.find(&end));
    let (begin, end) = marks.with_context(|| format!("{}: has no marks for {mark}", path.display()))?;
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace("####", "\\#\\#\\#\\#"));
    let table = |table: Section| {
        let rule = format!("|{}\n", "---|".repeat(table.head.len()));
        let rows: String = table.rows.iter().map(|row| line(row)).collect();
        format!("\n### {}\n\n{}\n\n{}{rule}{rows}", table.title, table.note, line(&table.head))
    };
    let results: String = tables.into_iter().map(table).collect();
    write_file(path, format!("{}{results}\n{}", &text[..begin], &text[end..]).as_bytes())
}

/// The same as a page, with the curves.
pub fn write_html(path: &Path, results: &Results) -> Result<()> {
    let sections = tables(results);
    let names: Vec<&str> = results.courses.iter().map(|course| course.name).collect();
    let figure = |name, about, of: fn(&Knowledge) -> f64| {
        let curves = results.courses.iter().map(|course| {
            course.learned.iter().map(|at| Point { step: at.step, value: of(&at.knowledge) }).collect::<Vec<_>>()
        });
        let curves: Vec<Vec<Point>> = curves.collect();
        let lines = curves.iter().enumerate().map(|(run, points)| Line { run, name: names[run], points, cases: None });
        Figure { name, about, lines: lines.collect() }.html()
    };
    let figures = [
        figure("correlation", "of V and process rewards", |known| known.correlation),
        figure("area under the curve", "of V as a judge of segments", |known| known.auc),
    ];
    write_file(path, document("The paper in miniature", &sections, &names, &figures).as_bytes())
}
