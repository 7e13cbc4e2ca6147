//! The demo's page: what the loop did, the run's curves, and V along responses.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::claim::claims;
use super::comparison::comparison;
use super::configurations::configurations;
use super::curve::{Curve, Point};
use super::number::{percent, short};
use super::page::{Page, Part, escape};
use super::response::{Slip, ValuedResponse, slips};
use super::run::RunRecord;
use super::valued::ValuedResponses;
use super::values::{example, valued_responses};

/// A policy's accuracy on the same problems before and after training.
#[derive(Serialize)]
pub struct Measured {
    /// How the responses were written.
    pub name: &'static str,
    pub before: f64,
    pub after: f64,
    /// Of the difference.
    pub standard_error: f64,
}

/// The page of a run that was evaluated before and after it: an HTML file's text.
///
/// # Errors
/// Names the file of the run that cannot be read.
pub fn demo_page(about: &str, run: PathBuf, measured: &[Measured], valued: &ValuedResponses) -> Result<String> {
    let mut runs = RunRecord::read_all(&[run])?;
    runs.iter_mut().for_each(|run| add_before(run, measured));
    let parts = [
        Part::of(claim(&valued.responses)),
        accuracies(about, measured),
        heading("Training"),
        Part::of(claims(&runs)),
        comparison(&runs),
        heading("What the value network says of responses"),
        valued_responses(&valued.responses, valued.correlation.as_ref()),
        Part::of(configurations(&runs)),
    ];
    let title = "From a base model and problems to a better policy";
    Ok(Page { title, kind: "dqo-wgpu demo", heading: title, reload: None, parts: &parts }.html())
}

/// The run's evaluations are greedy, on the problems that were measured before: that is the one at step 0.
fn add_before(run: &mut RunRecord, measured: &[Measured]) {
    let Some(greedy) = measured.iter().find(|measured| measured.name == "greedy") else { return };
    let accuracy = run.curves.iter_mut().find(|curve| curve.metric == "eval/accuracy");
    if let Some(Curve { points, .. }) = accuracy {
        points.insert(0, Point { step: 0, value: greedy.before });
        run.clock.begin();
    }
}

/// That V falls at the slip, by how much, and the response in which it falls furthest; or that it does not.
fn claim(responses: &[ValuedResponse]) -> String {
    let slips = slips(responses);
    let fall = |slip: &Slip| slip.before - slip.after;
    let Some(furthest) = slips.iter().max_by(|a, b| fall(a).total_cmp(&fall(b))) else {
        return "<p class=\"claim\">No response below goes wrong at a step.</p>\n".to_owned();
    };
    let mean = |of: fn(&Slip) -> f64| slips.iter().map(of).sum::<f64>() / slips.len() as f64;
    let (before, after) = (mean(|slip| slip.before), mean(|slip| slip.after));
    let fell = slips.iter().filter(|slip| fall(slip) > 0.0).count();
    let said = if after < before { "V falls at the slip." } else { "V does not fall at the slip here." };
    let note = format!(
        "The one in which it falls furthest, as the policy wrote it before training: V is {} before the first wrong step, \
         which is underlined, and {} at its end.",
        short(furthest.before, 2),
        short(furthest.after, 2)
    );
    format!(
        "<p class=\"claim\"><b>{said}</b> The value network was told only whether whole sums are right. Over the first wrong \
         step of {} wrong responses to sums that were not trained on, V goes from {} to {} in the mean; it falls in {fell} of \
         them.</p>\n{}",
        slips.len(),
        short(before, 2),
        short(after, 2),
        example(responses, furthest.response, &note)
    )
}

fn heading(text: &str) -> Part {
    Part::of(format!("<h2 class=\"chapter\">{text}</h2>\n"))
}

fn accuracies(about: &str, measured: &[Measured]) -> Part {
    let figure = |measured: &Measured| {
        let Measured { name, before, after, standard_error } = measured;
        let bar = |name: &str, share: f64| {
            let accuracy = percent(share);
            format!(
                "<div class=\"bar-row\"><span>{name}</span><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" \
                 role=\"img\" aria-label=\"{name}: {accuracy}\"><rect width=\"100\" height=\"10\" class=\"room\"/>\
                 <rect width=\"{:.2}\" height=\"10\" class=\"{name}\"/></svg><b>{accuracy}</b></div>\n",
                100.0 * share
            )
        };
        format!(
            "<figure class=\"card\"><figcaption><b>{name}</b> <span>{:+.1} points, standard error {:.1}</span>\
             </figcaption>\n{}{}</figure>\n",
            100.0 * (after - before),
            100.0 * standard_error,
            bar("before", *before),
            bar("after", *after)
        )
    };
    let figures: String = measured.iter().map(figure).collect();
    Part {
        body: format!("<p>{}</p>\n<section class=\"accuracies\">\n{figures}</section>\n", escape(about)),
        style: include_str!("demo.css").to_owned(),
        script: "",
    }
}
