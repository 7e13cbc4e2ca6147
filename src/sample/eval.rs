//! `eval`: how many problems a policy solves, greedily or by sampling under several seeds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asked::AskedProblems;
use super::generator::{Generated, Generator, Request};
use super::settings::SamplingSettings;
use super::writer::{PolicyOptions, Writer};
use crate::data::{Columns, ProblemFile, Tokenizer};
use crate::files::{spare, write_file};
use crate::grade::{Grading, MathEqual, Task};
use crate::model::Policy;
use crate::objective::range::{MOST_ROWS, at_least_one, count};
use crate::progress::{Progress, titled};
use crate::ranks::Ranks;

/// What `eval` takes.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalConfig {
    #[command(flatten)]
    #[serde(flatten)]
    pub policy: PolicyOptions,
    /// How problems are asked and responses graded
    #[arg(long, value_enum, default_value = "gsm8k")]
    pub task: Task,
    /// Problems with answers: rows of GSM8K, of MATH, or with a prompt and an answer each
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub columns: Columns,
    /// Where a row for each response goes
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Only the first problems, this many [default: all]
    #[arg(long, value_parser = at_least_one)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_problems: Option<usize>,
    /// Sample in place of always taking the most likely token
    #[arg(long)]
    #[serde(default)]
    pub sample: bool,
    /// With --sample: seeds, from --seed on
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub num_seeds: usize,
    /// GSM8K: take the last number of a response as its answer
    #[arg(long)]
    #[serde(default)]
    pub flexible: bool,
    /// MATH: when answers are equal
    #[arg(long, value_enum, default_value = "hendrycks")]
    pub math_equal: MathEqual,
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: SamplingSettings,
}

/// A graded response to a problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The problem's number, from 0.
    pub problem: usize,
    pub seed: u64,
    pub completion: String,
    pub completion_ids: Vec<u32>,
    /// The answer in it, where it has one.
    pub answer: Option<String>,
    pub correct: bool,
}

/// Right answers among some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    pub right: usize,
    pub count: usize,
    pub accuracy: f64,
}

impl Score {
    fn of<'a>(predictions: impl Iterator<Item = &'a Prediction>) -> Self {
        let (mut right, mut count) = (0, 0);
        for prediction in predictions {
            right += usize::from(prediction.correct);
            count += 1;
        }
        Self { right, count, accuracy: right as f64 / f64::max(count as f64, 1.0) }
    }
}

/// What an evaluation has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalSummary {
    pub problems: usize,
    /// Over all seeds.
    pub accuracy: f64,
    /// Wilson's interval that holds the accuracy on problems like these with 95 %.
    pub interval: [f64; 2],
    /// Of the mean over seeds, where there are several.
    pub standard_error: Option<f64>,
    pub by_seed: BTreeMap<u64, Score>,
    /// MATH's levels and subjects; empty elsewhere.
    pub by_level: BTreeMap<String, Score>,
    pub by_subject: BTreeMap<String, Score>,
}

/// What a policy is evaluated on, and how its responses are drawn and graded.
pub struct Evaluation<'a> {
    pub asked: &'a AskedProblems,
    pub task: Task,
    pub grading: Grading,
    pub settings: &'a SamplingSettings,
    /// All problems are asked once under each.
    pub seeds: &'a [u64],
    /// Who shares the problems out.
    pub ranks: &'a Ranks,
}

impl Evaluation<'_> {
    /// Writes responses to all problems under each seed and grades them; in the order of the seeds, then of the problems.
    /// `progress` hears of every response of this rank's. `None` where `go_on` says no, which is asked at every token.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn run(
        &self,
        policy: &Policy,
        generator: &mut Generator,
        tokenizer: &Tokenizer,
        go_on: impl Fn() -> bool,
        progress: &mut Progress,
    ) -> Result<Option<Vec<Prediction>>> {
        let Self { asked, settings, seeds, ranks, .. } = *self;
        let mut predictions = Vec::with_capacity(self.responses());
        let mut right = 0;
        // A problem's seeds follow each other: they share its prefill.
        let problems: Vec<usize> = ranks.share(asked.len()).collect();
        let requests = problems.iter().flat_map(|&problem| {
            let (prompt, stream) = (&asked.prompts[problem], asked.problem(problem).line as u64);
            seeds.iter().map(move |&seed| Request { prompt_ids: prompt.clone(), seed, stream })
        });
        let finished = |response: Generated| {
            let prediction = self.grade(response, &problems, tokenizer)?;
            right += usize::from(prediction.correct);
            predictions.push(prediction);
            progress.advance(1, &format!("{:.1} % right", 100.0 * right as f64 / predictions.len() as f64));
            Ok(true)
        };
        generator.run(policy, requests, settings, |_, _| Ok(go_on()), finished)?;
        if ranks.any(!go_on())? {
            return Ok(None);
        }
        let mut predictions = ranks.gather(predictions)?.concat();
        predictions
            .sort_by_key(|prediction| (seeds.iter().position(|&seed| seed == prediction.seed), prediction.problem));
        Ok(Some(predictions))
    }

    /// Responses that this rank writes.
    pub fn responses(&self) -> usize {
        self.ranks.share(self.asked.len()).count() * self.seeds.len()
    }

    /// Of a response to one of these problems.
    fn grade(&self, response: Generated, problems: &[usize], tokenizer: &Tokenizer) -> Result<Prediction> {
        let seeds = self.seeds.len();
        let (problem, seed) = (problems[response.request / seeds], self.seeds[response.request % seeds]);
        let completion = tokenizer.decode(&response.completion_ids)?;
        let reference = self.asked.problem(problem).answer.as_deref().unwrap_or_default();
        Ok(Prediction {
            problem,
            seed,
            answer: self.task.answer(&completion, self.grading),
            correct: self.task.is_right(&completion, reference, self.grading),
            completion,
            completion_ids: response.completion_ids,
        })
    }
}

impl EvalSummary {
    /// Of the predictions of [`Evaluation::run`].
    pub fn of(predictions: &[Prediction], asked: &AskedProblems) -> Self {
        let score_by = |key: &dyn Fn(&Prediction) -> Option<String>| {
            let mut groups: BTreeMap<String, Vec<&Prediction>> = BTreeMap::new();
            for prediction in predictions {
                if let Some(key) = key(prediction) {
                    groups.entry(key).or_default().push(prediction);
                }
            }
            let score = |(key, group): (String, Vec<&Prediction>)| (key, Score::of(group.into_iter()));
            groups.into_iter().map(score).collect::<BTreeMap<_, _>>()
        };
        let seeds: std::collections::BTreeSet<u64> = predictions.iter().map(|prediction| prediction.seed).collect();
        let of_seed = |seed: u64| Score::of(predictions.iter().filter(|prediction| prediction.seed == seed));
        let by_seed: BTreeMap<u64, Score> = seeds.into_iter().map(|seed| (seed, of_seed(seed))).collect();
        let accuracy = Score::of(predictions.iter()).accuracy;
        Self {
            problems: asked.len(),
            accuracy,
            interval: wilson(accuracy, asked.len()),
            standard_error: standard_error(&by_seed.values().map(|score| score.accuracy).collect::<Vec<_>>()),
            by_seed,
            by_level: score_by(&|prediction| asked.problem(prediction.problem).level.clone()),
            by_subject: score_by(&|prediction| asked.problem(prediction.problem).subject.clone()),
        }
    }
}

/// Of the normal distribution: 95 % lie within so many standard deviations.
const Z: f64 = 1.959_963_985;

/// Wilson's score interval (1927) for a share of `count` trials, at 95 %.
pub fn wilson(share: f64, count: usize) -> [f64; 2] {
    let n = f64::max(count as f64, 1.0);
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

/// Of the mean of some values; `None` of fewer than two.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (values.len() > 1).then(|| (variance / n).sqrt())
}

/// Evaluates a policy, a share of the problems on each rank; the first one writes the predictions where an output is named.
/// `None` where it was interrupted.
///
/// # Errors
/// Names the option, or the file, line and field, that is wrong.
pub fn eval(config: &EvalConfig, ranks: &Ranks, go_on: impl Fn() -> bool) -> Result<Option<EvalSummary>> {
    config.sampling.check()?;
    ensure!(config.task != Task::None, "--task none: there is nothing to grade by; choose gsm8k or math");
    count("--num-seeds", config.num_seeds, MOST_ROWS)?;
    count("--max-problems", config.max_problems.unwrap_or(1), usize::MAX)?;
    let data = config.data.as_deref().context("--data is missing")?;
    let files = config.policy.open()?;
    if let Some(output) = &config.output {
        spare(&[data, &files.dir], output)?;
    }
    let problems = ProblemFile::read(data, &config.columns, config.task)?;
    let asked = AskedProblems::new(problems, config.max_problems, &files.tokenizer, files.config.limits())?;
    asked.file.need_answers()?;
    ranks.agree_on(config, || Ok(config.policy.model.input_files(&files.dir)?.with_file("--data", data)))?;
    let settings =
        if config.sample { config.sampling } else { SamplingSettings::greedy(config.sampling.max_new_tokens) };
    let wanted = asked.len() * config.num_seeds;
    let Writer { tokenizer, policy, mut generator, .. } =
        config.policy.load(files, &settings, asked.longest(), wanted)?;

    let seeds: Vec<u64> = (0..config.num_seeds as u64).map(|number| config.policy.seed.wrapping_add(number)).collect();
    let grading = Grading { flexible: config.flexible, math_equal: config.math_equal };
    let evaluation =
        Evaluation { asked: &asked, task: config.task, grading, settings: &settings, seeds: &seeds, ranks };
    let mut progress = Progress::new(titled("eval", data), evaluation.responses(), 0);
    let Some(predictions) = evaluation.run(&policy, &mut generator, &tokenizer, go_on, &mut progress)? else {
        return Ok(None);
    };
    if let Some(output) = config.output.as_ref().filter(|_| ranks.is_first()) {
        let row = |prediction: &Prediction| row(prediction, &asked).to_string() + "\n";
        write_file(output, predictions.iter().map(row).collect::<String>().as_bytes())?;
    }
    Ok(Some(EvalSummary::of(&predictions, &asked)))
}

fn row(prediction: &Prediction, asked: &AskedProblems) -> Value {
    json!({
        "prompt": asked.problem(prediction.problem).prompt.to_json(),
        "completion": prediction.completion,
        "completion_ids": prediction.completion_ids,
        "answer": prediction.answer,
        "correct": prediction.correct,
        "seed": prediction.seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // By statsmodels' proportion_confint(method="wilson").
        for (right, count, expected) in [(0, 10, [0.0, 0.277_532_8]), (8, 10, [0.490_162_5, 0.943_317_8])] {
            let found = wilson(right as f64 / count as f64, count);
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
        }
    }

    /// Those of 0 and of all have a closed form: z^2 / (n + z^2) from the end. The others are solutions of
    /// |p - share| = z sqrt(p (1 - p) / n), which is what the interval's ends are.
    #[test]
    fn ends_are_where_the_share_is_just_likely() {
        for (share, count) in [(0.5, 10), (0.25, 40), (0.995, 400), (0.001, 1000)] {
            let [low, high] = wilson(share, count);
            assert!(low < share && share < high);
            for end in [low, high] {
                let reach = Z * (end * (1.0 - end) / count as f64).sqrt();
                assert!(((end - share).abs() - reach).abs() < 1e-12, "{share} of {count}: {end}");
            }
        }
        let (none, all) = (wilson(0.0, 20), wilson(1.0, 20));
        assert!(none[0] == 0.0 && (none[1] - 0.161125).abs() < 1e-6, "{none:?}");
        assert!(all[1] == 1.0 && (all[0] - 0.838875).abs() < 1e-6, "{all:?}");
    }

    #[test]
    fn the_standard_error_is_of_the_mean() {
        assert_eq!(standard_error(&[0.5]), None);
        assert!((standard_error(&[0.4, 0.5, 0.6]).unwrap() - 0.1 / 3f64.sqrt()).abs() < 1e-15);
    }
}
