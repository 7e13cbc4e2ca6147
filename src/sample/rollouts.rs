//! `sample`: responses to problems, graded, as the paper makes its data (appendix A).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asked::AskedProblems;
use super::generator::{Finish, Generated, Request};
use super::rows::RowsInProgress;
use super::settings::SamplingSettings;
use super::writer::PolicyOptions;
use crate::data::{Columns, Problem, ProblemFile, Tokenizer};
use crate::grade::{Grading, Task};
use crate::objective::range::{MOST_ROWS, at_least_one, count};
use crate::progress::Progress;
use crate::ranks::Ranks;

/// What `sample` takes.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleConfig {
    #[command(flatten)]
    #[serde(flatten)]
    pub policy: PolicyOptions,
    /// How problems are asked and responses graded
    #[arg(long, value_enum, default_value = "none")]
    pub task: Task,
    /// Problems: rows of GSM8K, of MATH, or with a prompt each
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub columns: Columns,
    /// Where the rollouts go
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Responses to each problem
    #[arg(long, default_value_t = 20, value_parser = at_least_one)]
    pub num_samples: usize,
    /// Only the first problems, this many [default: all]
    #[arg(long, value_parser = at_least_one)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_problems: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: SamplingSettings,
}

/// What a run of `sample` has written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SampleSummary {
    /// Rows in the output.
    pub rows: usize,
    /// Rows with a reward, and those that are right.
    pub graded: usize,
    pub right: usize,
    /// Rows that have an end token.
    pub stopped: usize,
    /// Response tokens that this run wrote, and its seconds.
    pub tokens: usize,
    pub seconds: f64,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

/// A window of responses has so many for every one that is decoded at a time: ranks wait for each other at its end.
const WINDOW: usize = 8;

/// Samples responses to all problems, or with `resume` those that are missing, a share of them on each rank; the first one writes
/// them.
///
/// # Errors
/// Names the option, or the file, line and field, that is wrong.
pub fn sample(config: &SampleConfig, resume: bool, ranks: &Ranks, interrupt: &AtomicBool) -> Result<SampleSummary> {
    config.sampling.check()?;
    count("--num-samples", config.num_samples, MOST_ROWS)?;
    count("--max-problems", config.max_problems.unwrap_or(1), usize::MAX)?;
    let data = config.data.as_deref().context("--data is missing")?;
    let output = config.output.as_deref().context("--output is missing")?;
    let files = config.policy.open()?;
    let problems = ProblemFile::read(data, &config.columns, config.task)?;
    let asked = AskedProblems::new(problems, config.max_problems, &files.tokenizer, files.config.limits())?;

    let inputs = config.policy.model.input_files(&files.dir)?.with_file("--data", data);
    let mut rows = RowsInProgress::open(output, resume, config, &inputs, &["problem", "sample"], ranks)?;
    let place = |index: usize, sample: usize| vec![asked.problem(index).line as u64, sample as u64];
    let all = (0..asked.len()).flat_map(|index| (0..config.num_samples).map(move |sample| (index, sample)));
    let wanted: Vec<(usize, usize)> = all.filter(|&(index, sample)| !rows.has(&place(index, sample))).collect();
    let mut summary = SampleSummary::of(&rows);
    if wanted.is_empty() {
        rows.end(true)?;
        return Ok(summary);
    }
    let share = wanted.len().div_ceil(ranks.count());
    let mut writer = config.policy.load(files, &config.sampling, asked.longest(), share)?;
    let total = asked.len() * config.num_samples;
    let mut progress = Progress::new("sample", total, total - wanted.len());
    let start = Instant::now();
    let mut note = |row: &Value| {
        summary.count(row);
        summary.tokens += row["completion_ids"].as_array().map_or(0, Vec::len);
        summary.seconds = start.elapsed().as_secs_f64();
        progress.advance(1, &summary.message());
    };
    // A process by itself waits for nobody.
    let window =
        if ranks.are_several() { WINDOW * writer.generator.sizes().batch * ranks.count() } else { wanted.len() };
    let mut interrupted = false;
    for wanted in wanted.chunks(window) {
        let mine: Vec<_> = ranks.share(wanted.len()).map(|number| wanted[number]).collect();
        let requests = mine.iter().map(|&(index, sample)| Request {
            prompt_ids: asked.prompts[index].clone(),
            seed: config.policy.seed,
            // The line, not the place in this run: a resumed run, or one over fewer problems, draws the same.
            stream: (asked.problem(index).line as u64) << 32 | sample as u64,
        });
        let mut written = 0;
        let finished = |response: Generated| {
            let (index, sample) = mine[response.request];
            let (problem, prompt_ids) = (asked.problem(index), &asked.prompts[index]);
            let row = Rollout { problem, prompt_ids, sample, response }.row(config.task, &writer.tokenizer)?;
            note(&row);
            rows.add(place(index, sample), &row)?;
            written += 1;
            Ok(true)
        };
        let go_on = |_, _| Ok(!interrupt.load(Ordering::Relaxed));
        writer.generator.run(&writer.policy, requests, &config.sampling, go_on, finished)?;
        rows.collect(&mut note)?;
        interrupted = ranks.any(written < mine.len())?;
        if interrupted {
            break;
        }
    }
    summary.interrupted = interrupted;
    rows.end(!interrupted)?;
    Ok(summary)
}

/// A response to a problem, with the tokens that it was asked by.
pub struct Rollout<'a> {
    pub problem: &'a Problem,
    pub prompt_ids: &'a [u32],
    /// Its number among the responses to the problem.
    pub sample: usize,
    pub response: Generated,
}

impl Rollout<'_> {
    /// Its row, graded where there is an answer, as training reads it; and where it is from.
    ///
    /// # Errors
    /// Where there is no tokenizer.
    pub fn row(self, task: Task, tokenizer: &Tokenizer) -> Result<Value> {
        let Self { problem, prompt_ids, sample, response } = self;
        let completion = tokenizer.decode(&response.completion_ids)?;
        let mut row = json!({ "prompt": problem.prompt.to_json(), "completion": completion });
        if let (Some(answer), Task::Gsm8k | Task::Math) = (&problem.answer, task) {
            row["reward"] = f64::from(u8::from(task.is_right(&completion, answer, Grading::default()))).into();
        }
        if let Some(answer) = &problem.answer {
            row["answer"] = answer.as_str().into();
        }
        row["prompt_ids"] = prompt_ids.into();
        row["completion_ids"] = response.completion_ids.into();
        row["behavior_logps"] = response.logps.into();
        row["finish_reason"] = response.finish.as_str().into();
        row["problem"] = problem.line.into();
        row["sample"] = sample.into();
        Ok(row)
    }
}

impl SampleSummary {
    /// Of the rows that are there.
    fn of(rows: &RowsInProgress) -> Self {
        let mut summary =
            Self { rows: 0, graded: 0, right: 0, stopped: 0, tokens: 0, seconds: 0.0, interrupted: false };
        rows.rows().for_each(|row| summary.count(&row));
        summary
    }

    fn count(&mut self, row: &Value) {
        self.rows += 1;
        if let Some(reward) = row["reward"].as_f64() {
            self.graded += 1;
            self.right += usize::from(reward > 0.5);
        }
        self.stopped += usize::from(row["finish_reason"] == Finish::Stop.as_str());
    }

    /// How it goes, for a progress bar.
    fn message(&self) -> String {
        let speed = format!("{:.0} tokens/s", self.tokens as f64 / self.seconds.max(1e-9));
        match self.graded {
            0 => speed,
            graded => format!("{speed}, {:.1} % right", 100.0 * self.right as f64 / graded as f64),
        }
    }
}
