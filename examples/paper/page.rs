//! The results as Markdown, in the written account, and as a page.

use std::path::Path;

use anyhow::{Context, Result};
use dqo_wgpu::files::write_file;
use dqo_wgpu::report::{Figure, Line, Point, Section, document};

use crate::experiments::{Knowledge, Mean, Results, Row};

const BEGIN: &str = "<!-- results -->\n";
const END: &str = "<!-- end of results -->";

/// A table under a title, with what the paper has beside it.
struct Table {
    title: &'static str,
    note: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// The paper's accuracies on GSM8K: method, Qwen2-7B-Instruct greedy and sampled, Gemma-1.1-7B-it greedy and sampled.
const PAPER: [(&str, [f64; 4]); 7] = [
    ("base", [59.06, 53.30, 39.65, 38.89]),
    ("sft", [85.06, 84.15, 53.45, 45.46]),
    ("rs", [84.15, 83.47, 53.60, 53.37]),
    ("dpo", [87.26, 84.23, 57.85, 59.41]),
    ("kto", [86.35, 83.55, 50.49, 50.19]),
    ("dro", [86.73, 83.39, 60.58, 60.05]),
    ("dqo", [87.26, 84.69, 63.91, 64.06]),
];

fn percent(Mean { mean, error }: Mean) -> String {
    format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * error)
}

fn accuracies(row: &Row) -> [String; 2] {
    [percent(row.greedy), percent(row.sampled)]
}

/// Rows of an ablation beside the paper's greedy and sampled accuracies of Gemma on GSM8K.
fn ablation(rows: &[Row], paper: &[[f64; 2]]) -> Vec<Vec<String>> {
    let row = |(number, row): (usize, &Row)| {
        let paper = |place: usize| {
            paper.get(number).map_or("-".to_owned(), |known| match known[place] {
                value if value.is_nan() => "-".to_owned(),
                value => format!("{value:.2}"),
            })
        };
        let [greedy, sampled] = accuracies(row);
        vec![row.settings.clone(), greedy, sampled, paper(0), paper(1)]
    };
    rows.iter().enumerate().map(row).collect()
}

fn tables(results: &Results) -> Vec<Table> {
    let paper = |name: &str| PAPER.iter().find(|(method, _)| *method == name).map(|(_, figures)| figures);
    let method = |row: &Row| {
        let [greedy, sampled] = accuracies(row);
        let figure = |place: usize| paper(&row.name).map_or("-".to_owned(), |figures| format!("{:.2}", figures[place]));
        let name = row.name.to_uppercase();
        let name = if row.name == "base" { row.name.clone() } else { name };
        vec![name, row.settings.clone(), greedy, sampled, figure(0), figure(1), figure(2), figure(3)]
    };
    let against = ["", "greedy", "sampled", "the paper's, greedy", "sampled"];
    let (count, right) = results.rollouts;
    let [on, off] = results.first_weights;
    vec![
        Table {
            title: "All methods (Tables 3 and 4)",
            note: format!(
                "Accuracy on 500 sums, mean and standard error over three seeds; {count} rollouts, {:.1} % of them right. Beside \
                 it the paper's on GSM8K: Qwen2-7B-Instruct, then Gemma-1.1-7B-it.",
                100.0 * right
            ),
            head: vec!["", "chosen", "greedy", "sampled", "Qwen, greedy", "sampled", "Gemma, greedy", "sampled"],
            rows: std::iter::once(&results.base).chain(&results.methods).map(method).collect(),
        },
        Table {
            title: "Importance weights (Table 5)",
            note: format!(
                "Rollouts of the base itself. The mean weight in the first step is {on:.3}. The paper's: Gemma on GSM8K."
            ),
            head: against.to_vec(),
            rows: ablation(&results.importance[0], &[[58.68, 60.20], [56.03, 56.48], [63.53, 64.06], [63.91, 64.06]]),
        },
        Table {
            title: "Importance weights, off-policy data",
            note: format!(
                "Rollouts of a policy with a third of the base's teaching. The mean weight in the first step is {off:.3}."
            ),
            head: against[..3].to_vec(),
            rows: results.importance[1]
                .iter()
                .map(|row| [row.settings.clone()].into_iter().chain(accuracies(row)).collect())
                .collect(),
        },
        Table {
            title: "Lambda-return (Table 6)",
            note: "The paper's: Gemma on GSM8K.".to_owned(),
            head: against.to_vec(),
            rows: ablation(&results.lambda, &[[60.20, 59.21], [f64::NAN, f64::NAN], [63.91, 64.06]]),
        },
        Table {
            title: "Process rewards (Table 7)",
            note: "The paper's: Gemma on GSM8K.".to_owned(),
            head: against.to_vec(),
            rows: ablation(&results.process, &[[63.91, 64.06], [65.04, 65.35]]),
        },
        Table {
            title: "What V knows during training (Figure 2)",
            note: "On responses of the base to sums that were not trained on: Pearson's correlation of V at the ends of segments \
                   with their process rewards; and, in wrong responses, the area under the curve of V as a judge of whether a \
                   segment still stands on right ones (Table 2's claim)."
                .to_owned(),
            head: vec!["step", "correlation", "area", "without V-loss IS: correlation", "area"],
            rows: results.knowledge[0]
                .iter()
                .zip(&results.knowledge[1])
                .map(|(with, without)| {
                    let number = |value: f64| format!("{value:.3}");
                    let of = |known: &Knowledge| [number(known.correlation), number(known.auc)];
                    [with.step.to_string()].into_iter().chain(of(with)).chain(of(without)).collect()
                })
                .collect(),
        },
        Table {
            title: "A wrong response (Table 2)",
            note: format!("The sum is {}; V is of the run without the importance weight in its loss.", results.case.sum),
            head: vec!["segment", "V at its end", ""],
            rows: results
                .case
                .segments
                .iter()
                .map(|(text, value, right)| {
                    vec![text.clone(), format!("{value:.3}"), if *right { "right" } else { "wrong" }.to_owned()]
                })
                .collect(),
        },
    ]
}

/// Puts the results between the marks of the written account.
pub fn write_markdown(path: &Path, results: &Results) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let marks = text.find(BEGIN).map(|place| place + BEGIN.len()).zip(text.find(END));
    let (begin, end) = marks.with_context(|| format!("{}: has no marks for results", path.display()))?;
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace("####", "\\#\\#\\#\\#"));
    let table = |table: Table| {
        let head: Vec<String> = table.head.iter().map(|cell| (*cell).to_owned()).collect();
        let rule = format!("|{}\n", "---|".repeat(head.len()));
        let rows: String = table.rows.iter().map(|row| line(row)).collect();
        format!("\n### {}\n\n{}\n\n{}{rule}{rows}", table.title, table.note, line(&head))
    };
    let results: String = tables(results).into_iter().map(table).collect();
    write_file(path, format!("{}{results}\n{}", &text[..begin], &text[end..]).as_bytes())
}

/// The same as a page, with the curves.
pub fn write_html(path: &Path, results: &Results) -> Result<()> {
    let mut sections: Vec<Section> = Vec::new();
    for table in tables(results) {
        sections.push(Section { title: table.title, note: table.note, head: table.head, rows: table.rows });
    }
    let curve = |of: fn(&Knowledge) -> f64| {
        results
            .knowledge
            .each_ref()
            .map(|known| known.iter().map(|known| Point { step: known.step, value: of(known) }).collect::<Vec<_>>())
    };
    let (correlations, areas) = (curve(|known| known.correlation), curve(|known| known.auc));
    let names = ["with the importance weight", "without it"];
    let figure = |name, about, points: &[Vec<Point>; 2]| {
        let line = |run: usize| Line { run, name: names[run], points: &points[run], cases: None };
        Figure { name, about, lines: vec![line(0), line(1)] }.html()
    };
    let figures = [
        figure("correlation", "of V and process rewards", &correlations),
        figure("area under the curve", "of V as a judge of segments", &areas),
    ];
    write_file(path, document("The paper in miniature", &sections, &names, &figures).as_bytes())
}
