//! The laboratory: every artefact is made once, in a file or directory of its own; what is there already is taken as it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use dqo_wgpu::data::Columns;
use dqo_wgpu::files::write_file;
use dqo_wgpu::grade::{MathEqual, Task};
use dqo_wgpu::model::{DeviceOptions, ModelOptions, WeightOptions};
use dqo_wgpu::ranks::Ranks;
use dqo_wgpu::report::{ValuedResponses, ValuesConfig, value_responses};
use dqo_wgpu::sample::{
    EvalConfig, PolicyOptions, ProcessRewardConfig, SampleConfig, SamplingSettings, eval, process_reward, sample,
};
use dqo_wgpu::train::{Outcome, Run, TrainSettings, Watch};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The paper's settings (appendix A): responses for training and for evaluation by sampling are drawn alike.
pub const SAMPLING: SamplingSettings =
    SamplingSettings { temperature: 1.0, top_k: 16, top_p: 0.9, min_prob: 0.01, max_new_tokens: 48 };

/// Where everything is made.
pub struct Lab {
    pub dir: PathBuf,
    pub device: DeviceOptions,
}

/// Shares of problems that a policy solves.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Accuracy {
    pub greedy: f64,
    pub sampled: f64,
}

/// The rows of a file.
pub fn rows_of(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl Lab {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file of rows.
    pub fn rows(&self, name: &str, rows: impl FnOnce() -> Vec<Value>) -> Result<PathBuf> {
        let path = self.path(name);
        if !path.exists() {
            let text: String = rows().iter().map(|row| row.to_string() + "\n").collect();
            write_file(&path, text.as_bytes())?;
        }
        Ok(path)
    }

    fn policy(&self, model: &Path, seed: u64) -> PolicyOptions {
        PolicyOptions {
            model: ModelOptions {
                model: Some(model.display().to_string()),
                device: self.device.clone(),
                ..ModelOptions::default()
            },
            seed,
            batch_size: 128,
        }
    }

    /// Responses of a policy, graded.
    pub fn sample(&self, name: &str, model: &Path, problems: &Path, num_samples: usize) -> Result<PathBuf> {
        let output = self.path(name);
        let config = SampleConfig {
            policy: self.policy(model, 1),
            task: Task::Gsm8k,
            data: Some(problems.to_owned()),
            columns: Columns::default(),
            output: Some(output.clone()),
            num_samples,
            max_problems: None,
            sampling: SAMPLING,
        };
        sample(&config, true, &Ranks::alone(), &NEVER).with_context(|| name.to_owned())?;
        Ok(output)
    }

    /// Rollouts with process rewards.
    pub fn process_rewards(&self, name: &str, model: &Path, rollouts: &Path) -> Result<PathBuf> {
        let output = self.path(name);
        let config = ProcessRewardConfig {
            policy: self.policy(model, 2),
            task: Task::Gsm8k,
            data: Some(rollouts.to_owned()),
            columns: Columns::default(),
            output: Some(output.clone()),
            num_samples: 20,
            sampling: SAMPLING,
        };
        process_reward(&config, true, &Ranks::alone(), &NEVER).with_context(|| name.to_owned())?;
        Ok(output)
    }

    /// Trains; the run's directory.
    pub fn train(&self, name: &str, settings: &toml::Table) -> Result<PathBuf> {
        let output = self.path(name);
        if output.join("final").exists() {
            return Ok(output);
        }
        eprintln!("== {name}");
        let mut table = toml::toml! {
            tokens_per_micro_batch = 8192
            eval_batch_size = 128
            save_steps = 0
        };
        table.insert("device".to_owned(), self.device.device.clone().into());
        table.insert("matmul_precision".to_owned(), self.device.matmul_precision.to_string().into());
        table.insert("output_dir".to_owned(), output.display().to_string().into());
        table.insert("max_new_tokens".to_owned(), (SAMPLING.max_new_tokens as i64).into());
        table.extend(settings.clone());
        let settings = TrainSettings::of_table(table).with_context(|| name.to_owned())?;
        let resume = output.exists();
        let watch = Watch::on_stderr(&NEVER);
        match Run::open(settings).and_then(|run| run.train(resume, watch)).with_context(|| name.to_owned())? {
            Outcome::Finished(_) => Ok(output),
            Outcome::Interrupted(_) => anyhow::bail!("{name}: was interrupted"),
        }
    }

    /// The accuracy of a policy.
    pub fn accuracy(&self, name: &str, model: &Path, problems: &Path, seed: u64) -> Result<Accuracy> {
        let path = self.path(&format!("accuracies/{name}.json"));
        if let Ok(text) = std::fs::read_to_string(&path) {
            return serde_json::from_str(&text).with_context(|| path.display().to_string());
        }
        let evaluation = |sampled: bool| {
            let config = EvalConfig {
                policy: self.policy(model, seed),
                task: Task::Gsm8k,
                data: Some(problems.to_owned()),
                columns: Columns::default(),
                output: None,
                max_problems: None,
                sample: sampled,
                num_seeds: if sampled { 3 } else { 1 },
                flexible: false,
                math_equal: MathEqual::Hendrycks,
                sampling: SAMPLING,
            };
            let summary = eval(&config, &Ranks::alone(), || true)?.context("it was interrupted")?;
            Ok::<f64, anyhow::Error>(summary.accuracy)
        };
        let accuracy = Accuracy { greedy: evaluation(false)?, sampled: evaluation(true)? };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        write_file(&path, serde_json::to_string(&accuracy)?.as_bytes())?;
        Ok(accuracy)
    }

    /// V along given responses.
    pub fn values(&self, value: &Path, rows: &Path) -> Result<ValuedResponses> {
        value_responses(
            &ValuesConfig {
                value: Some(value.display().to_string()),
                adapter: None,
                data: Some(rows.to_owned()),
                columns: Columns::default(),
                device: self.device.clone(),
                weights: WeightOptions::default(),
                tokens_per_micro_batch: 8192,
                lambda: 1.0,
                process_scale: 1.0,
            },
            &Ranks::alone(),
        )
    }
}
