//! The demo's page: what the loop did, the run's curves, and V along responses.

use std::path::PathBuf;

use anyhow::Result;

use serde::Serialize;

use super::comparison::comparison;
use super::page::{Page, Part, escape};
use super::run::RunRecord;
use super::valued::ValuedResponses;
use super::values::valued_responses;

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
    let runs = RunRecord::read_all(&[run])?;
    let parts = [
        accuracies(about, measured),
        heading("Training"),
        comparison(&runs),
        heading("What the value network says of responses"),
        valued_responses(&valued.responses, valued.correlation.as_ref()),
    ];
    let title = "From a base model and problems to a better policy";
    Ok(Page { title, kind: "dqo-wgpu demo", heading: title, parts: &parts }.html())
}

fn heading(text: &str) -> Part {
    Part { body: format!("<h2 class=\"chapter\">{text}</h2>\n"), style: String::new(), script: "" }
}

fn accuracies(about: &str, measured: &[Measured]) -> Part {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
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
