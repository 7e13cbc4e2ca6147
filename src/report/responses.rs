//! What runs trained on: how responses were rewarded, how long they are, and some of them.

use super::histogram::{Series, histogram};
use super::number::{percent, short};
use super::page::{escape, shortened};
use super::run::RunRecord;
use super::written::{ResponseGroup, Shown, Written};

const PROMPT_LENGTH: usize = 160;
/// Groups of which responses are shown.
const SHOWN_GROUPS: usize = 5;

/// The responses of the runs; of a run whose responses are not to be had, why.
pub fn responses(runs: &[RunRecord]) -> String {
    let missing = |run: &RunRecord| {
        let why = run.written.as_ref().err()?;
        Some(format!(
            "<p class=\"legend\">{}: without its responses. {}</p>\n",
            escape(&run.name),
            escape(&why.to_string())
        ))
    };
    let missing: String = runs.iter().filter_map(missing).collect();
    let cut_off: String = runs.iter().map(cut_off).collect();
    let written: String = runs.iter().enumerate().map(completions).collect();
    format!("<section><h2>Responses trained on</h2>\n{missing}{cut_off}{}{written}</section>\n", histograms(runs))
}

fn written(run: &RunRecord) -> impl Iterator<Item = &Written> {
    run.written.iter()
}

/// A group in the histograms.
struct Counted<'a> {
    run: usize,
    group: &'a ResponseGroup,
    /// Whether the run's last round comes after it.
    is_early: bool,
}

/// Of a run its data, or its first and its last round.
fn counted(run: usize, record: &RunRecord) -> Vec<Counted<'_>> {
    let groups = record.written.as_ref().map_or(&[][..], |written| &written.groups);
    match groups {
        [only] => vec![Counted { run, group: only, is_early: false }],
        [first, .., last] => {
            vec![Counted { run, group: first, is_early: true }, Counted { run, group: last, is_early: false }]
        }
        [] => Vec::new(),
    }
}

fn histograms(runs: &[RunRecord]) -> String {
    let groups: Vec<Counted> = runs.iter().enumerate().flat_map(|(run, record)| counted(run, record)).collect();
    let name = |of: &Counted| match of.group.step {
        Some(_) => format!("{}, {}", runs[of.run].name, of.group.name),
        None => runs[of.run].name.clone(),
    };
    let figure = |title: &str, what: &str, numbers: fn(&ResponseGroup) -> &[f64]| {
        let series: Vec<Series> = groups
            .iter()
            .map(|of| Series { run: of.run, name: name(of), is_early: of.is_early, numbers: numbers(of.group) })
            .collect();
        match histogram(what, &series) {
            svg if svg.is_empty() => svg,
            svg => format!(
                "<figure class=\"card\"><figcaption><b>{title}</b> <span>shares of responses{}</span></figcaption>\n\
                 {svg}</figure>\n",
                if groups.iter().any(|of| of.is_early) { "; pale: the first round" } else { "" }
            ),
        }
    };
    let in_tokens = groups.iter().all(|of| of.group.in_tokens);
    let what = if in_tokens { "tokens of a response" } else { "characters of a response" };
    let figures = figure("reward of a response", "reward", |group| &group.rewards)
        + &figure("length of a response", what, |group| &group.lengths);
    if figures.is_empty() { figures } else { format!("<div class=\"plots\">\n{figures}</div>\n") }
}

/// A sentence a run on how its responses ended.
fn cut_off(run: &RunRecord) -> String {
    let share = |group: &ResponseGroup| {
        Some(format!("{} of the responses of {} were cut off", percent(group.cut_off?), in_words(&group.name)))
    };
    let groups = written(run).flat_map(|written| {
        let last = (written.groups.len() > 1).then(|| written.groups.last()).flatten();
        written.groups.first().into_iter().chain(last)
    });
    match groups.filter_map(share).collect::<Vec<_>>().join(", ") {
        text if text.is_empty() => text,
        text => format!("<p>{}: {text}.</p>\n", escape(&run.name)),
    }
}

fn in_words(group: &str) -> String {
    if group == "data" { "its data".to_owned() } else { group.to_owned() }
}

/// Some responses, folded: of rounds that are spread over the run, or of the data.
fn completions((index, run): (usize, &RunRecord)) -> String {
    let groups: Vec<&ResponseGroup> = written(run).flat_map(|written| &written.groups).collect();
    let count = groups.len().min(SHOWN_GROUPS);
    let spread = (0..count).map(|index| groups[index * (groups.len() - 1) / (count - 1).max(1)]);
    let one = |group: &ResponseGroup, shown: &Shown| {
        let reward = shown.reward.map_or_else(String::new, |reward| format!("reward {} · ", short(reward, 4)));
        format!(
            "<div><p>{} · {reward}{}</p><pre dir=\"auto\">{}</pre></div>\n",
            group.name,
            escape(&shortened(&shown.prompt, PROMPT_LENGTH)),
            escape(&shown.completion)
        )
    };
    // Of rounds two each, so that they can be read after one another.
    let most = if count > 1 { 2 } else { usize::MAX };
    let items: String = spread
        .flat_map(|group| {
            let step = group.shown.len().div_ceil(most).max(1);
            group.shown.iter().step_by(step).map(move |shown| one(group, shown)).collect::<Vec<_>>()
        })
        .collect();
    if items.is_empty() {
        return items;
    }
    format!(
        "<details class=\"written card\" data-keep=\"written-{index}\"><summary>{}: some of its responses</summary>\n\
         {items}</details>\n",
        escape(&run.name)
    )
}
