//! `demo`: DQO on an embedded model and embedded rollouts, in about a minute on a laptop's CPU.
//!
//! The task is addition with written-out steps. The model was taught by this project's `sft` until it got a little more
//! than half of the sums right; the rollouts are its own samples, right and wrong (tools/demo_assets.py made both).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::data::{Examples, RowFile, Tokenizer};
use crate::device::{DType, Device};
use crate::model::{Checkpoint, ModelConfig};
use crate::train::{Method, Outcome, Run, SchedulerType, Scorer, Source, TrainConfig, WeightType};

/// The embedded files.
const FILES: [(&str, &[u8]); 7] = [
    ("model/config.json", include_bytes!("../assets/demo/model/config.json")),
    ("model/model.safetensors", include_bytes!("../assets/demo/model/model.safetensors")),
    ("model/tokenizer.json", include_bytes!("../assets/demo/model/tokenizer.json")),
    ("model/tokenizer_config.json", include_bytes!("../assets/demo/model/tokenizer_config.json")),
    ("model/chat_template.jinja", include_bytes!("../assets/demo/model/chat_template.jinja")),
    ("rollouts.jsonl", include_bytes!("../assets/demo/rollouts.jsonl")),
    ("held_back.jsonl", include_bytes!("../assets/demo/held_back.jsonl")),
];

/// Mean log-probs of whole responses.
#[derive(Clone, Copy, Debug)]
pub struct MeanLogps {
    /// Of responses with the right sum.
    pub right: f64,
    /// Of the others.
    pub wrong: f64,
}

/// What the demo shows.
pub struct DemoResult {
    /// Rows of `metrics.jsonl`.
    pub metrics: Vec<Value>,
    /// Over the held-back rollouts, by the model as it was.
    pub before: MeanLogps,
    /// Over the same, by the trained policy.
    pub after: MeanLogps,
    /// The run's directory.
    pub output_dir: PathBuf,
    /// How the run ended.
    pub outcome: Outcome,
}

/// Trains for `epochs` passes over the embedded rollouts and writes the run to `output_dir`.
///
/// # Errors
/// Where the device fails or a file cannot be written.
pub fn run(device: &Device, output_dir: &Path, epochs: usize, interrupt: &AtomicBool) -> Result<DemoResult> {
    let embedded = tempfile::tempdir().context("no temporary directory")?;
    for (name, contents) in FILES {
        let path = embedded.path().join(name);
        let parent = path.parent().unwrap_or(embedded.path());
        std::fs::create_dir_all(parent)?;
        std::fs::write(&path, contents).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    let (model, held_back) = (embedded.path().join("model"), embedded.path().join("held_back.jsonl"));
    let before = mean_logps(device, &model, &held_back)?;
    let config = TrainConfig {
        method: Some(Method::Dqo),
        model: Some(model.display().to_string()),
        data: Some(embedded.path().join("rollouts.jsonl")),
        output_dir: Some(output_dir.to_owned()),
        batch_size: 256,
        tokens_per_micro_batch: 4096,
        num_train_epochs: epochs,
        learning_rate: 3e-5,
        value_learning_rate: Some(2e-4),
        lr_scheduler_type: SchedulerType::Cosine,
        max_grad_norm: 0.0,
        save_steps: 0,
        dtype: WeightType::F32,
        ..TrainConfig::default()
    };
    let outcome = Run::open_on(config, |_| Ok(device.clone()))?.train(false, interrupt)?;
    let after = match &outcome {
        Outcome::Finished(result) => mean_logps(device, &result.join("policy"), &held_back)?,
        Outcome::Interrupted(_) => before,
    };
    let metrics = std::fs::read_to_string(output_dir.join("metrics.jsonl"))?;
    let metrics = metrics.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok(DemoResult { metrics, before, after, output_dir: output_dir.to_owned(), outcome })
}

fn mean_logps(device: &Device, model: &Path, rows: &Path) -> Result<MeanLogps> {
    let config = ModelConfig::read(model)?;
    let examples =
        Examples::build(&RowFile::read(rows)?, &Tokenizer::read(model, &config)?, &config, usize::MAX)?.examples;
    let checkpoint = Checkpoint::open(model)?;
    let source = Source { config: &config, checkpoint: Some(&checkpoint) };
    let mut scorer = Scorer::new(device, source, "policy", DType::Real, (&examples, 4096))?;
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    scorer.score(&examples, |first, scored| {
        for (example, scored) in examples[first..].iter().zip(scored) {
            let kind = if example.reward > Some(0.5) { &mut right } else { &mut wrong };
            kind.push(scored.logps.iter().sum::<f64>());
        }
        Ok(())
    })?;
    let mean = |logps: &[f64]| logps.iter().sum::<f64>() / logps.len() as f64;
    Ok(MeanLogps { right: mean(&right), wrong: mean(&wrong) })
}

/// Columns of the metrics' table: title, name, digits.
const COLUMNS: [(&str, &str, usize); 6] = [
    ("step", "step", 0),
    ("policy loss", "policy_loss", 3),
    ("value loss", "value_loss", 3),
    ("mean V", "values/mean", 3),
    ("kl", "kl", 3),
    ("entropy", "entropy", 4),
];

impl fmt::Display for DemoResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, _, _) in COLUMNS {
            write!(f, "{title:>12}")?;
        }
        writeln!(f)?;
        let every = self.metrics.len().div_ceil(10).max(1);
        for row in self.metrics.iter().skip(every - 1).step_by(every) {
            for (_, name, digits) in COLUMNS {
                write!(f, "{:>12.digits$}", row[name].as_f64().unwrap_or(f64::NAN))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\nmean log-prob of responses to sums that were not trained on:")?;
        writeln!(f, "{:>8}{:>10}{:>10}{:>10}", "", "before", "after", "change")?;
        let rows = [("right", self.before.right, self.after.right), ("wrong", self.before.wrong, self.after.wrong)];
        for (kind, before, after) in rows {
            writeln!(f, "{kind:>8}{before:>10.3}{after:>10.3}{:>+10.3}", after - before)?;
        }
        write!(f, "\nthe policy and the value network are in {}/final", self.output_dir.display())
    }
}
