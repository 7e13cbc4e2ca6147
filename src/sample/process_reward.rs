//! `process-reward`: which steps of a response still led to a right answer (section 4.4 of the paper).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::generator::{Generated, Request};
use super::rows::RowsInProgress;
use super::segments::{Segment, segments};
use super::settings::SamplingSettings;
use super::writer::{PolicyOptions, Writer};
use crate::data::{Columns, Example, Examples, ROW_FIELDS, RowFile, for_each_row};
use crate::files::input_name;
use crate::grade::{Grading, Task};
use crate::model::ModelFiles;
use crate::objective::range::{MOST_ROWS, at_least_one, count};
use crate::progress::Progress;
use crate::ranks::Ranks;

/// What `process-reward` takes.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRewardConfig {
    #[command(flatten)]
    #[serde(flatten)]
    pub policy: PolicyOptions,
    /// How responses are graded
    #[arg(long, value_enum, default_value = "gsm8k")]
    pub task: Task,
    /// Rollouts with a reward and an answer each
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub columns: Columns,
    /// Where the rows go, with their process rewards
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Completions of each prefix of a wrong response
    #[arg(long, default_value_t = 20, value_parser = at_least_one)]
    pub num_samples: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: SamplingSettings,
}

/// What a run of `process-reward` has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ProcessRewardSummary {
    pub rows: usize,
    /// Wrong responses, and those of them with a right step.
    pub wrong: usize,
    pub with_right_steps: usize,
    pub interrupted: bool,
}

/// A response whose steps are being judged.
struct Judged {
    line: usize,
    row: Value,
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
    answer: String,
    segments: Vec<Segment>,
    /// Steps of the prefix that is looked at now; at 0 none was right.
    prefix: usize,
}

/// Rows that are judged together.
const WINDOW: usize = 16;

/// Gives every row its process rewards, or with `resume` those that are missing. A right response's steps are all right; of a
/// wrong one the longest prefix is looked for that a completion of it, out of `samples`, leads to a right answer.
///
/// # Errors
/// Names the option, or the file, line and field, that is wrong.
pub fn process_reward(
    config: &ProcessRewardConfig,
    resume: bool,
    ranks: &Ranks,
    interrupt: &AtomicBool,
) -> Result<ProcessRewardSummary> {
    config.sampling.check()?;
    count("--num-samples", config.num_samples, MOST_ROWS)?;
    ensure!(config.task != Task::None, "--task none: there is nothing to grade by; choose gsm8k or math");
    let data = config.data.as_deref().context("--data is missing")?;
    let output = config.output.as_deref().context("--output is missing")?;
    let files = config.policy.open()?;
    let judged = read(config, data, &files)?;

    let inputs = config.policy.model.input_files(&files.dir)?.with_file("--data", data);
    let mut rows = RowsInProgress::open(output, resume, config, &inputs, &["line"], ranks)?;
    let mut summary = ProcessRewardSummary::default();
    rows.rows().for_each(|row| summary.count(&row));
    let total = judged.len();
    let (wrong, right): (Vec<Judged>, Vec<Judged>) = judged
        .into_iter()
        .filter(|judged| !rows.has(&[judged.line as u64]))
        .partition(|judged| judged.row["reward"].as_f64().unwrap_or(0.0) <= 0.5);
    for judged in right {
        let all = judged.segments.len();
        let row = judged.scored(all);
        summary.count(&row);
        if ranks.is_first() {
            rows.add(vec![judged.line as u64], &row)?;
        }
    }
    if !wrong.is_empty() {
        let prompt_and_response = |judged: &Judged| judged.prompt_ids.len() + judged.completion_ids.len();
        let longest = wrong.iter().map(prompt_and_response).max().unwrap_or(0);
        let mut writer = config.policy.load(files, &config.sampling, longest, WINDOW * config.num_samples)?;
        let mut progress = Progress::new("process-reward", total, summary.rows);
        let mut wrong = wrong;
        for window in wrong.chunks_mut(WINDOW) {
            if !judge(window, &mut writer, config, ranks, interrupt)? {
                break;
            }
            for judged in &*window {
                let row = judged.scored(judged.prefix);
                summary.count(&row);
                if ranks.is_first() {
                    rows.add(vec![judged.line as u64], &row)?;
                }
            }
            progress
                .advance(window.len(), &format!("{} of {} with right steps", summary.with_right_steps, summary.wrong));
        }
    }
    summary.interrupted = summary.rows < total;
    rows.end(!summary.interrupted)?;
    Ok(summary)
}

fn read(config: &ProcessRewardConfig, data: &Path, files: &ModelFiles) -> Result<Vec<Judged>> {
    let file = RowFile::read_with(data, &config.columns)?;
    file.need_responses("process-reward")?;
    let Examples { examples, .. } = Examples::build(&file, &files.tokenizer, files.config.limits(), usize::MAX)?;
    let mut rows = HashMap::new();
    for_each_row(data, &config.columns, &ROW_FIELDS, |row, line| {
        rows.insert(line, row);
        Ok(())
    })?;
    let mut judged = |example: Example| -> Result<Judged> {
        let row = rows.remove(&example.line).context("is gone: the file has changed while it was read")?;
        let mut row = Value::Object(row);
        ensure!(example.reward.is_some(), "field `reward`: is missing (or `label`); `grade` adds it");
        let answer = row["answer"].as_str().map(str::to_owned);
        let answer = answer.context("field `answer`: is missing, and is needed to grade")?;
        row["reward"] = example.reward.into();
        row["line"] = example.line.into();
        let segments = segments(&files.tokenizer, &example.completion_ids)?;
        Ok(Judged {
            line: example.line,
            row,
            prompt_ids: example.prompt_ids,
            completion_ids: example.completion_ids,
            answer: config.task.reference(&answer).unwrap_or(answer),
            prefix: segments.len(),
            segments,
        })
    };
    let place = |line: usize| format!("{}:{line}", input_name(data));
    let judged = examples.into_iter().map(|example| {
        let line = example.line;
        judged(example).with_context(|| place(line))
    });
    let judged = judged.collect::<Result<Vec<Judged>>>()?;
    for judged in &judged {
        let whole: Vec<u32> = judged.prompt_ids.iter().chain(&judged.completion_ids).copied().collect();
        files.config.limits().check_prompt(&whole, || place(judged.line))?;
    }
    Ok(judged)
}

/// Finds every row's longest right prefix, from the longest down; whether it was not interrupted.
fn judge(
    rows: &mut [Judged],
    writer: &mut Writer,
    config: &ProcessRewardConfig,
    ranks: &Ranks,
    interrupt: &AtomicBool,
) -> Result<bool> {
    let mut open: Vec<usize> = (0..rows.len()).collect();
    loop {
        open.retain(|&row| {
            rows[row].prefix -= 1;
            rows[row].prefix > 0
        });
        if open.is_empty() {
            return Ok(true);
        }
        let (samples, seed) = (config.num_samples, config.policy.seed);
        let mine: Vec<usize> = ranks.share(open.len()).map(|index| open[index]).collect();
        let requests = mine.iter().flat_map(|&row| {
            let judged = &rows[row];
            let end = judged.segments[judged.prefix - 1].end;
            let prefix_ids: Vec<u32> = judged.prompt_ids.iter().chain(&judged.completion_ids[..end]).copied().collect();
            // Lines below 2^32, steps and samples below 2^16: every draw has a stream of its own.
            let stream = (judged.line as u64) << 32 | (judged.prefix as u64) << 16;
            let request = move |sample| Request { prompt_ids: prefix_ids.clone(), seed, stream: stream | sample };
            (0..samples as u64).map(request)
        });
        let mut succeeded = vec![false; rows.len()];
        let finished = |response: Generated| {
            let row = mine[response.request / samples];
            let judged = &rows[row];
            let end = judged.segments[judged.prefix - 1].end;
            let whole: Vec<u32> =
                judged.completion_ids[..end].iter().chain(&response.completion_ids).copied().collect();
            let text = writer.tokenizer.decode(&whole)?;
            succeeded[row] |= config.task.is_right(&text, &judged.answer, Grading::default());
            Ok(true)
        };
        let go_on = |_, _| Ok(!interrupt.load(Ordering::Relaxed));
        writer.generator.run(&writer.policy, requests, &config.sampling, go_on, finished)?;
        if ranks.any(interrupt.load(Ordering::Relaxed))? {
            return Ok(false);
        }
        for of_rank in ranks.gather(succeeded.clone())? {
            succeeded.iter_mut().zip(of_rank).for_each(|(succeeded, on_rank)| *succeeded |= on_rank);
        }
        open.retain(|&row| !succeeded[row]);
    }
}

impl Judged {
    /// The row with `right` right steps out of n, each worth 1/n.
    fn scored(&self, right: usize) -> Value {
        let worth = 1.0 / self.segments.len() as f64;
        let reward = |(index, segment): (usize, &Segment)| {
            let reward = if index < right { worth } else { 0.0 };
            json!({ "end": segment.end, "reward": reward })
        };
        let mut row = self.row.clone();
        // The ends count tokens: they go with the ids.
        row["prompt_ids"] = self.prompt_ids.clone().into();
        row["completion_ids"] = self.completion_ids.clone().into();
        row["step_rewards"] = self.segments.iter().enumerate().map(reward).collect::<Vec<_>>().into();
        row
    }
}

impl ProcessRewardSummary {
    fn count(&mut self, row: &Value) {
        self.rows += 1;
        if row["reward"].as_f64().is_none_or(|reward| reward <= 0.5) {
            self.wrong += 1;
            let steps = row["step_rewards"].as_array();
            let any = steps.is_some_and(|steps| steps.iter().any(|step| step["reward"].as_f64() > Some(0.0)));
            self.with_right_steps += usize::from(any);
        }
    }
}
