//! `demo`: the whole loop on an embedded model and task, in half a minute on a laptop's CPU.
//!
//! The task is addition with written-out steps. The model was taught by this project's `sft` from demonstrations that
//! sometimes forget a carry (tools/demo_assets.py made it): it gets about half of the sums right when it samples. The demo
//! samples responses to other sums, grades them, trains on them with DQO, and evaluates before and after.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sums::step_rewards;
use crate::data::Columns;
use crate::files::{Fresh, make_dir, write_file};
use crate::grade::{MathEqual, Task};
use crate::model::{DeviceOptions, ModelOptions, WeightOptions};
use crate::objective::Dqo;
use crate::objective::range::{MOST, at_least_one, count};
use crate::ranks::Ranks;
use crate::report::{Measured, ValuesConfig, demo_page, value_responses};
use crate::sample::{EvalConfig, EvalSummary, PolicyOptions, SampleConfig, SamplingSettings, eval, sample};
use crate::train::{Outcome, Run, SchedulerType, TrainConfig, TrainSettings, Watch};

/// Where the model is, in the output.
const MODEL: &str = "model";

/// The embedded files.
const FILES: [(&str, &[u8]); 7] = [
    ("model/config.json", include_bytes!("../../assets/demo/model/config.json")),
    ("model/model.safetensors", include_bytes!("../../assets/demo/model/model.safetensors")),
    ("model/tokenizer.json", include_bytes!("../../assets/demo/model/tokenizer.json")),
    ("model/tokenizer_config.json", include_bytes!("../../assets/demo/model/tokenizer_config.json")),
    ("model/chat_template.jinja", include_bytes!("../../assets/demo/model/chat_template.jinja")),
    ("train.jsonl", include_bytes!("../../assets/demo/train.jsonl")),
    ("test.jsonl", include_bytes!("../../assets/demo/test.jsonl")),
];

/// What the page says first.
const ABOUT: &str = "A tiny model adds numbers of three digits, a column a step, and sometimes forgets a carry. It was \
    sampled on sums of its own, its responses were graded, and Direct Q-function Optimization trained a policy and a value \
    network on them. All figures are of other sums.";

/// Draws from the whole distribution: the log-probs that were recorded are those of the policy that drew.
const SAMPLING: SamplingSettings =
    SamplingSettings { temperature: 1.0, top_k: 0, top_p: 1.0, min_prob: 0.0, max_new_tokens: 48 };

/// Responses to each sum.
const SAMPLES: usize = 8;
/// Responses that the page shows, right ones and as many wrong ones.
const SHOWN: usize = 8;

/// What the demo takes.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct DemoConfig {
    #[command(flatten)]
    #[serde(flatten)]
    pub device: DeviceOptions,
    /// The seed of everything random
    #[arg(long, default_value_t = 42, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// Passes over the rollouts
    #[arg(long, default_value_t = 4, value_parser = at_least_one)]
    pub num_train_epochs: usize,
    /// Only the first sums, this many [default: all]
    #[arg(long, value_parser = at_least_one)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_problems: Option<usize>,
    /// Where everything is written; without --resume it must not exist
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub output_dir: PathBuf,
}

/// What the demo shows.
#[derive(Serialize)]
pub struct DemoResult {
    /// Sampled, then greedy.
    pub measured: [Measured; 2],
    /// The page.
    pub report: PathBuf,
    /// The directory with the policy and the value network.
    pub run: PathBuf,
}

/// Runs the whole loop, or with `resume` what is left of it; `None` where it was interrupted.
///
/// # Errors
/// Where there is a directory already (or none to go on in), the device fails, or a file cannot be written.
pub fn run(config: &DemoConfig, resume: bool, interrupt: &AtomicBool) -> Result<Option<DemoResult>> {
    count("--num-train-epochs", config.num_train_epochs, MOST)?;
    count("--max-problems", config.max_problems.unwrap_or(1), MOST)?;
    let dir = &config.output_dir;
    if resume {
        ensure!(dir.exists(), "{}: has no run to resume", dir.display());
    } else {
        ensure!(
            !dir.exists(),
            "{}: exists already; go on with it by --resume, or choose another --output-dir",
            dir.display()
        );
    }
    let mut fresh = write_files(dir, config.max_problems.unwrap_or(usize::MAX))?;
    let model = dir.join(MODEL);
    let rollouts = dir.join("rollouts.jsonl");
    let sampled = sample(
        &SampleConfig {
            policy: policy(config, &model),
            task: Task::Gsm8k,
            data: Some(dir.join("train.jsonl")),
            columns: Columns::default(),
            output: Some(rollouts.clone()),
            num_samples: SAMPLES,
            max_problems: None,
            sampling: SAMPLING,
        },
        resume,
        &Ranks::alone(),
        interrupt,
    );
    if rollouts.exists() {
        fresh.keep();
    }
    if sampled?.interrupted {
        return Ok(None);
    }
    let go_on = || !interrupt.load(Ordering::Relaxed);
    let Some(before) = Accuracies::of(config, &model, "before", go_on)? else { return Ok(None) };

    let run = dir.join("run");
    let watch = Watch::on_stderr(interrupt);
    let training = training(config, &model, rollouts, &run);
    let Outcome::Finished(result) = Run::open(training)?.train(Run::has_begun_in(&run), watch)? else {
        return Ok(None);
    };
    let Some(after) = Accuracies::of(config, &result.join("policy"), "after", go_on)? else { return Ok(None) };

    let shown = dir.join("shown.jsonl");
    write_file(&shown, shown_rows(&dir.join("before.jsonl"))?.as_bytes())?;
    let valued = value_responses(
        &ValuesConfig {
            value: Some(result.join("value").display().to_string()),
            adapter: None,
            data: Some(shown),
            columns: Columns::default(),
            device: config.device.clone(),
            weights: WeightOptions::default(),
            tokens_per_micro_batch: 8192,
            lambda: 1.0,
            // The process rewards of what is shown were not trained on.
            process_scale: 0.0,
        },
        &Ranks::alone(),
    )?;
    let measured =
        [measured("sampled", &before.sampled, &after.sampled), measured("greedy", &before.greedy, &after.greedy)];
    let report = dir.join("report.html");
    write_file(&report, demo_page(ABOUT, run.clone(), &measured, &valued)?.as_bytes())?;
    Ok(Some(DemoResult { measured, report, run }))
}

/// Writes the embedded files, with so many problems in each, but for those that are there. Those of others stay: nothing is
/// written then.
fn write_files(dir: &Path, problems: usize) -> Result<Fresh> {
    let files = FILES.map(|(name, contents)| match name.ends_with(".jsonl") {
        true => (dir.join(name), first_lines(contents, problems)),
        false => (dir.join(name), contents),
    });
    let (there, new): (Vec<_>, Vec<_>) = files.into_iter().partition(|(path, _)| path.exists());
    for (path, contents) in there {
        let is_ours = std::fs::read(&path).is_ok_and(|found| found == contents);
        ensure!(
            is_ours,
            "{}: is not the demo's, or has another --max-problems; choose another --output-dir",
            path.display()
        );
    }
    let made = [dir.join(MODEL), dir.to_owned()].into_iter().filter(|dir| !dir.exists());
    let fresh = Fresh::new(new.iter().map(|(path, _)| path.clone()).chain(made).collect());
    make_dir(dir)?;
    make_dir(&dir.join(MODEL))?;
    new.iter().try_for_each(|(path, contents)| write_file(path, contents))?;
    Ok(fresh)
}

fn first_lines(text: &[u8], count: usize) -> &[u8] {
    let ends = text.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at + 1);
    &text[..ends.take(count).last().unwrap_or(0)]
}

/// DQO on the rollouts.
fn training(demo: &DemoConfig, model: &Path, rollouts: PathBuf, run: &Path) -> TrainSettings {
    let mut config = TrainConfig {
        model: ModelOptions {
            model: Some(model.display().to_string()),
            device: demo.device.clone(),
            ..Default::default()
        },
        data: Some(rollouts),
        output_dir: Some(run.to_owned()),
        seed: demo.seed,
        ..TrainConfig::default()
    };
    config.steps.tokens_per_micro_batch = 8192;
    config.steps.num_train_epochs = demo.num_train_epochs;
    config.optimizer.learning_rate = 1e-4;
    config.optimizer.lr_scheduler_type = SchedulerType::Cosine;
    config.evaluation.eval_data = Some(demo.output_dir.join("test.jsonl"));
    config.evaluation.eval_steps = 25;
    config.evaluation.max_new_tokens = SAMPLING.max_new_tokens;
    config.evaluation.eval_batch_size = 128;
    config.saving.save_steps = 0;
    let mut dqo = Dqo {
        beta: 0.1,
        // The policy soon leaves the wrong responses: their importance is near 0, and with it V would learn nothing of them.
        value_is: false,
        ..Dqo::default()
    };
    dqo.value_network.value_learning_rate = Some(1e-3);
    TrainSettings::new(config, dqo)
}

fn policy(config: &DemoConfig, model: &Path) -> PolicyOptions {
    PolicyOptions {
        model: ModelOptions {
            model: Some(model.display().to_string()),
            device: config.device.clone(),
            ..ModelOptions::default()
        },
        seed: config.seed,
        batch_size: 128,
    }
}

struct Accuracies {
    sampled: EvalSummary,
    greedy: EvalSummary,
}

impl Accuracies {
    /// Of a policy, on the test problems; what it samples is written to `NAME.jsonl`.
    fn of(config: &DemoConfig, model: &Path, name: &str, go_on: impl Fn() -> bool + Copy) -> Result<Option<Self>> {
        let evaluation = |sampled: bool| EvalConfig {
            policy: policy(config, model),
            task: Task::Gsm8k,
            data: Some(config.output_dir.join("test.jsonl")),
            columns: Columns::default(),
            output: sampled.then(|| config.output_dir.join(format!("{name}.jsonl"))),
            max_problems: None,
            sample: sampled,
            num_seeds: 1,
            flexible: false,
            math_equal: MathEqual::default(),
            sampling: SAMPLING,
        };
        let Some(sampled) = eval(&evaluation(true), &Ranks::alone(), go_on)? else { return Ok(None) };
        let Some(greedy) = eval(&evaluation(false), &Ranks::alone(), go_on)? else { return Ok(None) };
        Ok(Some(Self { sampled, greedy }))
    }
}

fn measured(name: &'static str, before: &EvalSummary, after: &EvalSummary) -> Measured {
    let variance = |summary: &EvalSummary| summary.accuracy * (1.0 - summary.accuracy) / summary.problems as f64;
    Measured {
        name,
        before: before.accuracy,
        after: after.accuracy,
        standard_error: (variance(before) + variance(after)).sqrt(),
    }
}

/// Some right and some wrong responses of a file of predictions, as rows that say which steps are right.
fn shown_rows(predictions: &Path) -> Result<String> {
    let text = std::fs::read_to_string(predictions).with_context(|| predictions.display().to_string())?;
    let predictions = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of_kind = |right: bool| predictions.iter().filter(move |row| row["correct"] == right).take(SHOWN);
    let row = |prediction: &Value| {
        let reward = f64::from(u8::from(prediction["correct"] == true));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tokens = prediction["completion_ids"].as_array().map_or(0, Vec::len);
        let (asked, said) = (text(&prediction["prompt"][0]["content"]), text(&prediction["completion"]));
        let row = json!({
            "prompt": prediction["prompt"],
            "completion": prediction["completion"],
            "completion_ids": prediction["completion_ids"],
            "reward": reward,
            "step_rewards": step_rewards(&asked, &said, tokens).unwrap_or_default(),
        });
        row.to_string() + "\n"
    };
    Ok(of_kind(false).chain(of_kind(true)).map(row).collect())
}
