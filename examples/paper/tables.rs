//! The results as tables, with the paper's figures beside them.

use dqo_wgpu::device::MatmulPrecision;
use dqo_wgpu::report::Section;

use crate::experiments::{Ablations, Course, Results};
use crate::methods::{Mean, Row, described};
use crate::precisions::Precisions;
use crate::regime::{NEAR, Place, Regime};

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

/// The paper's greedy and sampled accuracies of Gemma on GSM8K: Tables 5, 6 and 7.
const PAPER_IMPORTANCE: [[f64; 2]; 4] = [[58.68, 60.20], [56.03, 56.48], [63.53, 64.06], [63.91, 64.06]];
const PAPER_LAMBDA: [[f64; 2]; 3] = [[60.20, 59.21], [f64::NAN, f64::NAN], [63.91, 64.06]];
const PAPER_PROCESS: [[f64; 2]; 2] = [[63.91, 64.06], [65.04, 65.35]];

/// Everything, in the order in which it is told.
pub fn tables(results: &Results) -> Vec<Section> {
    let [chosen, near] = &results.ablations;
    let mut tables = vec![methods(results), regime(&results.regime), following(&results.following)];
    for (place, ablations) in [("the chosen settings", chosen), ("near the reference", near)] {
        tables.extend(switched(place, ablations));
    }
    tables.extend([young(results), courses(&results.courses), case(results)]);
    tables
}

fn methods(results: &Results) -> Section {
    let row = |row: &Row| {
        let paper = PAPER.iter().find(|(method, _)| *method == row.name).map(|(_, figures)| figures);
        let paper = (0..4).map(|place| paper.map_or("-".to_owned(), |figures| format!("{:.2}", figures[place])));
        let name = if row.name == "base" { row.name.clone() } else { row.name.to_uppercase() };
        [name, row.settings.clone()].into_iter().chain(accuracies(row)).chain(paper).collect()
    };
    let (count, right) = results.rollouts;
    Section {
        title: "All methods (Tables 3 and 4)".to_owned(),
        note: format!(
            "Accuracy on 500 sums in percent, mean and standard error over three seeds; {count} rollouts, {:.1} % of them right. \
             Beside it the paper's on GSM8K: Qwen2-7B-Instruct, then Gemma-1.1-7B-it.",
            100.0 * right
        ),
        head: heads(&["", "chosen", "greedy", "sampled", "Qwen, greedy", "sampled", "Gemma, greedy", "sampled"]),
        rows: std::iter::once(&results.base).chain(&results.methods).map(row).collect(),
    }
}

/// What a place is told by, behind its settings.
const OF_A_PLACE: [&str; 6] = ["weight", "log ratio", "V's area", "V's correlation", "greedy", "sampled"];

fn of_a_place(place: &Place) -> [String; 6] {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    [
        format!("{:.2}", place.weight),
        format!("{:.2}", place.log_ratio),
        format!("{:.2}", place.knowledge.auc),
        format!("{:.2}", place.knowledge.correlation),
        percent(place.accuracy.greedy),
        percent(place.accuracy.sampled),
    ]
}

fn regime(regime: &Regime) -> Section {
    let row = |place: &Place| std::iter::once(described(&place.settings)).chain(of_a_place(place)).collect();
    Section {
        title: "The regime: both importance weights on".to_owned(),
        note: format!(
            "One seed. The mean importance weight and log ratio of the last quarter of the steps; V at the end as in the tables of \
             what V knows; the last policy's accuracy on 500 sums. A policy with a weight of {NEAR} and more is called near its \
             reference."
        ),
        head: heads(&[&[""], &OF_A_PLACE[..]].concat()),
        rows: regime.grid.iter().chain(&regime.longer).map(row).collect(),
    }
}

fn following(ways: &[(&'static str, Place)]) -> Section {
    let row = |(way, place): &(&str, Place)| {
        let rate = place.settings["learning_rate"].to_string();
        [rate, (*way).to_owned()].into_iter().chain(of_a_place(place)).collect()
    };
    Section {
        title: "Whether V can follow a policy that moves".to_owned(),
        note: "Beta 0.1, three passes, one seed.".to_owned(),
        head: heads(&[&["learning rate", ""], &OF_A_PLACE[..]].concat()),
        rows: ways.iter().map(row).collect(),
    }
}

/// The ablations in some settings.
fn switched(place: &str, ablations: &Ablations) -> [Section; 3] {
    let table = |name: &str, rows: &[Row], paper: &[[f64; 2]]| Section {
        title: format!("{name}, {place}"),
        note: format!("DQO with {}. The paper's: Gemma on GSM8K.", ablations.of),
        head: heads(&["", "greedy", "sampled", "the paper's, greedy", "sampled"]),
        rows: rows.iter().zip(paper).map(|(row, paper)| beside(row, paper)).collect(),
    };
    [
        table("Importance weights (Table 5)", &ablations.importance, &PAPER_IMPORTANCE),
        table("Lambda-return (Table 6)", &ablations.lambda, &PAPER_LAMBDA),
        table("Process rewards (Table 7)", &ablations.process, &PAPER_PROCESS),
    ]
}

fn beside(row: &Row, paper: &[f64; 2]) -> Vec<String> {
    let known = |value: &f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.2}") };
    std::iter::once(row.settings.clone()).chain(accuracies(row)).chain(paper.iter().map(known)).collect()
}

fn young(results: &Results) -> Section {
    let [on, off] = results.first_weights;
    Section {
        title: "Importance weights, off-policy data".to_owned(),
        note: format!(
            "Rollouts of a policy with a third of the base's teaching, the chosen settings. The mean weight in the first step is \
             {off:.3}, with the base's own rollouts {on:.3}."
        ),
        head: heads(&["", "greedy", "sampled"]),
        rows: results
            .young
            .iter()
            .map(|row| std::iter::once(row.settings.clone()).chain(accuracies(row)).collect())
            .collect(),
    }
}

fn courses(courses: &[Course]) -> Section {
    let steps = courses.first().map_or(&[][..], |course| &course.learned);
    let row = |(number, first): (usize, &crate::knowledge::Learned)| {
        let of = |course: &Course| {
            let known = course.learned.get(number).map(|learned| learned.knowledge);
            known.map_or(["-", "-"].map(str::to_owned), |known| {
                [known.correlation, known.auc].map(|value| format!("{value:.3}"))
            })
        };
        std::iter::once(first.step.to_string()).chain(courses.iter().flat_map(of)).collect()
    };
    let of_course = |course: &Course| [format!("{}: correlation", course.name), "area".to_owned()];
    Section {
        title: "What V knows during training (Figure 2)".to_owned(),
        note: "On responses of the base to sums that were not trained on: Pearson's correlation of V at the ends of segments with \
               their process rewards; and, in wrong responses, the area under the curve of V as a judge of whether a segment still \
               stands on right ones (Table 2's claim)."
            .to_owned(),
        head: std::iter::once("step".to_owned()).chain(courses.iter().flat_map(of_course)).collect(),
        rows: steps.iter().enumerate().map(row).collect(),
    }
}

fn case(results: &Results) -> Section {
    let row = |(text, value, right): &(String, f64, bool)| {
        vec![text.clone(), format!("{value:.3}"), if *right { "right" } else { "wrong" }.to_owned()]
    };
    Section {
        title: "A wrong response (Table 2)".to_owned(),
        note: format!("The sum is {}; V is of the run near the reference, with both weights on.", results.case.sum),
        head: heads(&["segment", "V at its end", ""]),
        rows: results.case.segments.iter().map(row).collect(),
    }
}

/// What the precision of large products does to every method.
pub fn by_precision(precisions: &Precisions) -> Section {
    let Precisions(columns) = precisions;
    let methods = columns.first().map_or(&[][..], |(_, rows)| rows);
    let row = |(number, row): (usize, &Row)| {
        let name = [row.name.to_uppercase(), row.settings.clone()];
        name.into_iter().chain(columns.iter().flat_map(|(_, rows)| accuracies(&rows[number]))).collect()
    };
    let of_column = |(precision, _): &(MatmulPrecision, _)| [format!("{precision}: greedy"), "sampled".to_owned()];
    Section {
        title: "All methods, by `--matmul-precision`".to_owned(),
        note: "As above, in the settings that were chosen, trained and evaluated so precisely: `./tools/paper --by-precision`. All on \
               one processor, where the base may be another than above: the CPU device's bits differ between processors. Heads are \
               too small for matrix units here, so that attention is f32 in all of them."
            .to_owned(),
        head: heads(&["", "chosen"]).into_iter().chain(columns.iter().flat_map(of_column)).collect(),
        rows: methods.iter().enumerate().map(row).collect(),
    }
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn accuracies(row: &Row) -> [String; 2] {
    [row.greedy, row.sampled].map(|Mean { mean, error }| format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * error))
}
