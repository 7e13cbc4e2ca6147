//! The settings of a training run that every method has: the command line's options, a file's keys, and what `config.toml`
//! records.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::course::Length;
use super::schedule::{Schedule, SchedulerType};
use crate::data::Columns;
use crate::files::is_stream;
use crate::grade::Task;
use crate::model::{ActivationType, Keep, LINEAR_LAYERS, LoraConfig, ModelOptions, WeightType};
use crate::objective::defaults;
use crate::objective::range::{MOST, MOST_ROWS, MOST_TOKENS, at_least_one, count, not_negative, unit, within};
use crate::sample::MAX_BATCH;

/// Everything that a training run depends on beside its method.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelOptions,
    /// Rollouts, a JSON object a line; for ppo problems with answers
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub columns: Columns,
    /// Where the run writes its configuration, metrics and networks
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_dir: Option<PathBuf>,
    /// The seed of everything random
    #[arg(long, default_value_t = 42, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub steps: StepOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub lora: LoraOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub optimizer: OptimizerOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub evaluation: EvaluationOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub saving: SavingOptions,
}

/// How many steps there are, and of what size.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepOptions {
    /// Rows an optimizer step: responses, for dpo pairs
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Tokens a micro-batch; fewer take less memory and change nothing else
    #[arg(long, default_value_t = 2048)]
    pub tokens_per_micro_batch: usize,
    /// Compute activations again in the backward pass: less memory, the same result
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub gradient_checkpointing: bool,
    /// How what the backward pass needs is stored
    ///
    /// With bf16 it takes half the memory, and gradients are slightly others.
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    pub activations: ActivationType,
    /// Passes over the data, for ppo over the problems
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub num_train_epochs: usize,
    /// Optimizer steps, however many passes that takes [default: what the epochs take]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Tokens of a row at most; a longer response loses its end
    #[arg(long, default_value_t = 1024)]
    pub max_length: usize,
}

/// New adapters.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraOptions {
    /// The rank of new adapters over a frozen base; 0: train all weights
    #[arg(long, default_value_t = 0)]
    pub lora_r: usize,
    /// With --lora-r: what adapters add is multiplied by alpha / r [default: 16]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// With --lora-r: the share of an adapter's inputs that a training step leaves out
    #[arg(long, default_value_t = 0.0)]
    pub lora_dropout: f64,
    /// With --lora-r: the linear layers that have adapters, separated by commas [default: all-linear]
    #[arg(

        long,
        value_enum,
        value_name = "NAME,...",
        value_delimiter = ',',
        hide_default_value = true,
        default_value = ALL_LINEAR
    )]
    pub lora_target_modules: Vec<TargetModule>,
}

/// How gradients become steps.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerOptions {
    /// The policy's learning rate
    #[arg(long, default_value = "5e-7")]
    pub learning_rate: f64,
    /// The optimizer
    #[arg(long, value_enum, default_value = "adamw")]
    pub optimizer: OptimizerType,
    /// Weight decay, on every weight as in torch.optim.AdamW
    #[arg(long, default_value_t = 0.0)]
    pub weight_decay: f64,
    /// The decay of Adam's mean of the gradients
    #[arg(long, default_value_t = 0.9)]
    pub adam_beta1: f64,
    /// The decay of Adam's mean of their squares
    #[arg(long, default_value_t = 0.999)]
    pub adam_beta2: f64,
    /// What is added to the root of Adam's mean of squares
    #[arg(long, default_value = "1e-8")]
    pub adam_epsilon: f64,
    /// The gradient norm that policy and value are each clipped to; 0: off
    #[arg(long, default_value_t = 1.0)]
    pub max_grad_norm: f64,
    /// The course of the learning rate
    #[arg(long, value_enum, default_value = "constant")]
    pub lr_scheduler_type: SchedulerType,
    /// With a linear or cosine schedule: the share of the learning rate that it ends at
    #[arg(long, default_value_t = 0.0)]
    pub min_lr_rate: f64,
    /// The share of the steps over which the learning rate rises from 0
    #[arg(long, default_value_t = 0.0)]
    pub warmup_ratio: f64,
    /// The steps over which the learning rate rises from 0; 0: those of --warmup-ratio
    #[arg(long, default_value_t = 0)]
    pub warmup_steps: usize,
}

/// What the policy is asked on the way.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationOptions {
    /// Problems to evaluate the policy on; the best one is kept in OUT/best
    #[arg(long, value_name = "FILE|-")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_data: Option<PathBuf>,
    /// With --eval-data: steps between evaluations; the last step is always evaluated
    #[arg(long, default_value_t = 100)]
    pub eval_steps: usize,
    /// With --eval-data: evaluate before the first step too
    #[arg(long)]
    #[serde(default)]
    pub eval_on_start: bool,
    /// With --eval-data, and for ppo: how problems are asked and responses graded [default: gsm8k; ppo needs it given]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// With --eval-data, and for ppo: tokens of a response at most
    #[arg(long, default_value_t = 512)]
    pub max_new_tokens: usize,
    /// With --eval-data, and for ppo: responses that are written at the same time
    #[arg(long, default_value_t = 32)]
    pub eval_batch_size: usize,
}

/// When the run is saved.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavingOptions {
    /// Steps between checkpoints; 0: only where it is interrupted
    #[arg(long, default_value_t = 100)]
    pub save_steps: usize,
    /// Checkpoints to keep; 0: all
    #[arg(long, default_value_t = 2)]
    pub save_total_limit: usize,
    /// How the weights in best/ and final/ are stored [default: whole networks as the model's files, adapters as f32]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_dtype: Option<WeightType>,
}

/// What `--lora-target-modules` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum TargetModule {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
    /// All of these, as PEFT calls them
    #[serde(rename = "all-linear")]
    #[value(name = "all-linear")]
    AllLinear,
}

const ALL_LINEAR: &str = "all-linear";

impl TargetModule {
    /// The linear layers of every decoder layer that it stands for, as a checkpoint has them.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::AllLinear => &LINEAR_LAYERS,
            layer => std::slice::from_ref(&LINEAR_LAYERS[layer as usize]),
        }
    }
}

/// The optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerType {
    Adamw,
    /// AdamW with moments in 8 bits, as bitsandbytes has it
    Adamw8bit,
    /// theta -= learning rate * gradient
    Sgd,
}

impl Default for TrainConfig {
    /// The command line's defaults; model, data and output directory are not set.
    fn default() -> Self {
        defaults()
    }
}

impl TrainConfig {
    /// Checks what no type says.
    ///
    /// # Errors
    /// Names the option that is missing or out of its range.
    pub fn check(&self) -> Result<()> {
        present("--model", self.model.model.is_some())?;
        present("--data", self.data.is_some())?;
        present("--output-dir", self.output_dir.is_some())?;
        let is_stdin = |path: &Option<PathBuf>| path.as_deref().is_some_and(is_stream);
        ensure!(
            !is_stdin(&self.data) || !is_stdin(&self.evaluation.eval_data),
            "--data and --eval-data are both standard input, which is read once; name a file for one of them"
        );
        self.check_ranges()
    }

    /// Checks what a plan needs: neither data nor a place for the result.
    ///
    /// # Errors
    /// As [`TrainConfig::check`].
    pub fn check_to_plan(&self) -> Result<()> {
        present("--model", self.model.model.is_some())?;
        self.check_ranges()
    }

    fn check_ranges(&self) -> Result<()> {
        self.lora.check()?;
        if let Some(option) = self.model.weights.of_base() {
            ensure!(
                self.model.adapter.is_some() || self.lora.lora_r > 0,
                "{option} goes with --lora-r or --adapter: a network that is trained whole has no frozen base"
            );
        }
        ensure!(
            self.model.adapter.is_none() || self.lora.lora_r == 0,
            "--adapter and --lora-r: the adapters to go on from have their rank; leave --lora-r out"
        );
        let (steps, evaluation) = (&self.steps, &self.evaluation);
        for (option, value, most) in [
            ("--batch-size", steps.batch_size, MOST_ROWS),
            ("--tokens-per-micro-batch", steps.tokens_per_micro_batch, MOST_TOKENS),
            ("--num-train-epochs", steps.num_train_epochs, MOST),
            ("--max-length", steps.max_length, MOST_TOKENS),
            ("--max-steps", steps.max_steps.unwrap_or(1), MOST),
            ("--warmup-steps", self.optimizer.warmup_steps.max(1), MOST),
            ("--eval-steps", evaluation.eval_steps, MOST),
            ("--max-new-tokens", evaluation.max_new_tokens, MOST_TOKENS),
            ("--eval-batch-size", evaluation.eval_batch_size, MAX_BATCH),
        ] {
            count(option, value, most)?;
        }
        self.optimizer.check()
    }

    /// How problems are asked and responses graded.
    pub fn task(&self) -> Task {
        self.evaluation.task.unwrap_or(Task::Gsm8k)
    }
}

impl StepOptions {
    /// What a forward pass keeps.
    pub(super) fn keep(&self) -> Keep {
        let kept = if self.gradient_checkpointing { Keep::LayerInputs } else { Keep::Everything };
        kept(self.activations)
    }

    /// Options that change what a step computes beside this one, and else do not.
    pub(super) fn depend_on(&self) -> &'static [&'static str] {
        // What is computed again is not what was kept rounded.
        if self.activations == ActivationType::Bf16 { &["gradient_checkpointing"] } else { &[] }
    }

    /// How long the run is.
    pub(super) fn length(&self) -> Length {
        self.max_steps.map_or(Length::Epochs(self.num_train_epochs), Length::Steps)
    }
}

impl OptimizerOptions {
    /// Whether a step's learning rate depends on how many there are.
    pub(super) fn depends_on_length(&self) -> bool {
        self.lr_scheduler_type != SchedulerType::Constant || self.warmup_steps == 0 && self.warmup_ratio > 0.0
    }

    /// The course of the learning rate over a run.
    pub(super) fn schedule(&self, total_steps: usize) -> Schedule {
        // Rounded up, as in transformers.
        let of_ratio = (self.warmup_ratio * total_steps as f64).ceil() as usize;
        let warmup_steps = if self.warmup_steps > 0 { self.warmup_steps } else { of_ratio };
        Schedule { kind: self.lr_scheduler_type, min_rate: self.min_lr_rate, warmup_steps, total_steps }
    }

    fn check(&self) -> Result<()> {
        let below_one = |option: &str, value: f64| within(option, value, (0.0..1.0).contains(&value));
        not_negative("--learning-rate", self.learning_rate)?;
        not_negative("--weight-decay", self.weight_decay)?;
        below_one("--adam-beta1", self.adam_beta1)?;
        below_one("--adam-beta2", self.adam_beta2)?;
        not_negative("--adam-epsilon", self.adam_epsilon)?;
        not_negative("--max-grad-norm", self.max_grad_norm)?;
        unit("--min-lr-rate", self.min_lr_rate)?;
        unit("--warmup-ratio", self.warmup_ratio)
    }
}

/// The rank of an adapter: no layer is wider.
const MOST_RANK: usize = 1 << 16;

/// Alpha of new adapters, where none is named.
const ALPHA: f64 = 16.0;

impl LoraOptions {
    /// New adapters, where any are wanted.
    pub(super) fn lora(&self) -> Option<LoraConfig> {
        let targets = self.lora_target_modules.iter().flat_map(|module| module.names()).map(|name| (*name).to_owned());
        (self.lora_r > 0).then(|| LoraConfig {
            r: self.lora_r,
            alpha: self.lora_alpha.unwrap_or(ALPHA),
            dropout: self.lora_dropout,
            use_rslora: false,
            target_modules: targets.collect(),
        })
    }

    fn check(&self) -> Result<()> {
        let alpha = self.lora_alpha.unwrap_or(ALPHA);
        ensure!(alpha > 0.0 && alpha.is_finite(), "--lora-alpha is {alpha}, which is out of its range");
        ensure!(self.lora_r <= MOST_RANK, "--lora-r is {}; it must be at most {MOST_RANK}", self.lora_r);
        ensure!(!self.lora_target_modules.is_empty(), "--lora-target-modules: names no layer");
        within("--lora-dropout", self.lora_dropout, (0.0..1.0).contains(&self.lora_dropout))?;
        for (option, given) in [
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-dropout", self.lora_dropout > 0.0),
            ("--lora-target-modules", self.lora_target_modules != [TargetModule::AllLinear]),
        ] {
            ensure!(!given || self.lora_r > 0, "{option} goes with --lora-r, and describes new adapters");
        }
        Ok(())
    }
}

/// # Errors
/// Says where an option can be given that is not.
pub(super) fn present(option: &str, given: bool) -> Result<()> {
    ensure!(given, "{option} is missing; give it as an option or in the file that --config names");
    Ok(())
}
