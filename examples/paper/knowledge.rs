//! What V knows of responses that nobody trained on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use dqo_wgpu::report::{Correlation, ValuedResponse, roc_area};

use crate::lab::Lab;
use crate::task::Sum;

/// How well V judges.
#[derive(Clone, Copy)]
pub struct Knowledge {
    /// Between V at the ends of segments and their process rewards.
    pub correlation: f64,
    /// Of V as a judge of whether a segment of a wrong response still stands on right ones.
    pub auc: f64,
}

/// What V knows at a step of training.
pub struct Learned {
    pub step: u64,
    pub knowledge: Knowledge,
}

/// A response to a sum, segment by segment: its text, V at its end, whether it and all before it are right.
pub struct Case {
    pub sum: String,
    pub segments: Vec<(String, f64, bool)>,
}

impl Knowledge {
    /// Of a value network, on scored responses.
    pub fn of(lab: &Lab, value: &Path, scored: &Path) -> Result<Self> {
        let valued = lab.values(value, scored)?;
        let correlation = valued.correlation.map_or(f64::NAN, |Correlation { pearson, .. }| pearson);
        Ok(Self { correlation, auc: auc(&valued.responses)? })
    }
}

/// At every checkpoint of a run, on responses that were not trained on.
pub fn over_a_run(lab: &Lab, run: &Path, scored: &Path) -> Result<Vec<Learned>> {
    let mut checkpoints: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(run)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(step) = name.strip_prefix("checkpoint-").and_then(|step| step.parse().ok()) {
            checkpoints.push((step, path.join("value")));
        }
    }
    checkpoints.sort();
    let learned = |(step, value): (u64, PathBuf)| Ok(Learned { step, knowledge: Knowledge::of(lab, &value, scored)? });
    checkpoints.into_iter().map(learned).collect()
}

/// The sum that a prompt asks for.
fn asked(response: &ValuedResponse) -> Result<Sum> {
    let digits = response.prompt.split(|character: char| !character.is_ascii_digit()).filter(|part| !part.is_empty());
    let numbers = digits.map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    match numbers[..] {
        [a, b] => Ok(Sum { a, b }),
        _ => anyhow::bail!("{:?} is no sum", response.prompt),
    }
}

/// Whether each segment of a response and all before it are right.
fn judged(response: &ValuedResponse) -> Result<Vec<(&str, f64, bool)>> {
    let right = asked(response)?.right_segments(response.segments.iter().map(|segment| segment.text.as_str()));
    Ok(response
        .segments
        .iter()
        .zip(right)
        .map(|(segment, right)| (segment.text.trim(), segment.value, right))
        .collect())
}

/// The area under the ROC curve of V as a judge of segments, over all segments of wrong responses.
fn auc(responses: &[ValuedResponse]) -> Result<f64> {
    let mut segments = Vec::new();
    for response in responses.iter().filter(|response| response.right == Some(false)) {
        segments.extend(judged(response)?.into_iter().map(|(_, value, is_right)| (value, is_right)));
    }
    Ok(roc_area(&segments).map_or(f64::NAN, |area| area.area))
}

/// The first wrong response that goes wrong behind its first segment.
pub fn wrong_response(responses: &[ValuedResponse]) -> Result<Case> {
    for response in responses.iter().filter(|response| response.right == Some(false)) {
        let judged = judged(response)?;
        if judged.len() == 4 && judged[0].2 && !judged[1].2 {
            let segments = judged.into_iter().map(|(text, value, right)| (text.to_owned(), value, right)).collect();
            let Sum { a, b } = asked(response)?;
            return Ok(Case { sum: format!("{a} + {b}"), segments });
        }
    }
    anyhow::bail!("no wrong response goes wrong at its second segment")
}
