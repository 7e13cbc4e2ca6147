//! The settings of a training run: the command line's options, a file's keys, and what `config.toml` records.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgAction, Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use super::rounds;
use super::schedule::SchedulerType;
use crate::grade::Task;
use crate::model::{LINEAR_LAYERS, WeightType};
use crate::objective::{Dpo, Dqo, Dro, Kto, Objective, PolicyTarget, Ppo, Sft, Tail};
use crate::sample::MAX_BATCH;

/// A training method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Direct Q-function Optimization: rows with a reward each.
    Dqo,
    /// Direct Reward Optimization: rows with a reward each.
    Dro,
    /// Direct Preference Optimization: pairs, given or made from rows with a reward each.
    Dpo,
    /// Kahneman-Tversky Optimization: rows that are right (reward above 0.5) or wrong.
    Kto,
    /// Supervised fine-tuning on every row's response.
    Sft,
    /// Rejection sampling: supervised fine-tuning on the rows with a reward above 0.5.
    Rs,
    /// Proximal Policy Optimization, online: problems are sampled, graded and trained on in rounds.
    Ppo,
}

impl Method {
    /// As `--method` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dqo => "dqo",
            Self::Dro => "dro",
            Self::Dpo => "dpo",
            Self::Kto => "kto",
            Self::Sft => "sft",
            Self::Rs => "rs",
            Self::Ppo => "ppo",
        }
    }

    /// The paper's beta, for the methods that have one.
    fn default_beta(self) -> Option<f64> {
        match self {
            Self::Dqo | Self::Dro | Self::Ppo => Some(0.03),
            Self::Dpo | Self::Kto => Some(0.1),
            Self::Sft | Self::Rs => None,
        }
    }
}

/// What becomes of a response that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncated {
    /// Its row is left out.
    Drop,
    /// It goes on with the value network's V behind its last token.
    Bootstrap,
    /// It ends there: V behind its last token is 0.
    Zero,
}

/// What a sequence's losses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossReduction {
    /// Sums over its response tokens, as in the paper.
    Sum,
    /// Means over them.
    Mean,
}

/// What the value network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueNetwork {
    /// Adapters and a head of its own, on the policy's frozen base.
    SharedBase,
    /// A whole network of its own, all of it trained.
    Copy,
}

impl ValueNetwork {
    /// Where none is named.
    pub(super) fn of(policy_has_adapters: bool) -> Self {
        if policy_has_adapters { Self::SharedBase } else { Self::Copy }
    }
}

/// A linear layer of every decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum LinearLayer {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
}

impl LinearLayer {
    /// As a checkpoint has it.
    pub(super) fn name(self) -> &'static str {
        LINEAR_LAYERS[self as usize]
    }
}

/// The optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerType {
    Adamw,
    /// theta -= learning rate * gradient
    Sgd,
}

/// Everything that a training run depends on.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The training method
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The model to train: a Hugging Face directory, or an id such as Qwen/Qwen2-0.5B-Instruct
    #[arg(long, value_name = "DIR|ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Rollouts, a JSON object a line; for ppo problems with answers
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Where the run writes its configuration, metrics, checkpoints and result
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_dir: Option<PathBuf>,
    /// Where to run: auto, gpu, cpu, or an adapter's number or name (see `devices`)
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: WeightType,
    /// The seed of everything random
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// The policy's learning rate
    #[arg(long, default_value_t = 5e-7)]
    pub learning_rate: f64,
    /// The value network's learning rate [default: the policy's]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_learning_rate: Option<f64>,
    /// Rows an optimizer step: responses, for dpo pairs
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Tokens a micro-batch; fewer take less memory and change nothing else
    #[arg(long, default_value_t = 2048)]
    pub tokens_per_micro_batch: usize,
    /// Keep each layer's input alone, and compute the rest again in the backward pass: less memory, the same result
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub gradient_checkpointing: bool,
    /// The rank of new adapters (LoRA) for policy and value network, over one frozen base; 0: train all weights
    #[arg(long, default_value_t = 0)]
    pub lora_r: usize,
    /// With --lora-r: what adapters add is multiplied by alpha / r [default: 16]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// With --lora-r: the linear layers that have adapters, separated by commas
    #[arg(
        long,
        value_enum,
        value_name = "NAME,...",
        value_delimiter = ',',
        hide_default_value = true,
        default_value = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
    )]
    pub lora_target_modules: Vec<LinearLayer>,
    /// Adapters over --model to go on from, a PEFT directory: they are trained, the model is frozen
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// The value network: adapters on the policy's base, or a whole one [default: shared-base with adapters, else copy]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<ValueNetwork>,
    /// Passes over the data, for ppo over the problems
    #[arg(long, default_value_t = 1)]
    pub num_train_epochs: usize,
    /// Optimizer steps, however many passes that takes [default: what the epochs take]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Tokens of a prompt and its response at most; a longer response loses its end
    #[arg(long, default_value_t = 1024)]
    pub max_length: usize,

    /// The coefficient of the KL term, for ppo that of log pi_old - log pi_ref in the rewards [default: 0.03; for dpo and
    /// kto 0.1]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// The lambda of the lambda-return; for ppo that of its advantages (TRL's default is 0.95)
    #[arg(long, default_value_t = 1.0)]
    pub lambda: f64,
    /// Weight the policy's loss by the importance of the response
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub policy_is: bool,
    /// Weight the value's loss by the importance of the response
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub value_is: bool,
    /// Weights of the lambda-return that sum to 1, or as eq. 3.11 prints them
    #[arg(long, value_enum, default_value = "standard")]
    pub lambda_tail: Tail,
    /// The policy's target: the next state's lambda-return (eq. 3.13) or its value (eq. 3.6)
    #[arg(long, value_enum, default_value = "lambda")]
    pub policy_target: PolicyTarget,
    /// A sequence's losses as sums or means over its response tokens
    #[arg(long, value_enum, default_value = "sum")]
    pub loss_reduction: LossReduction,
    /// The factor of process rewards
    #[arg(long, default_value_t = 1.0)]
    pub process_scale: f64,
    /// With dpo: pairs that are made of a prompt's rollouts at most, drawn by the seed
    #[arg(long, default_value_t = 12)]
    pub max_pairs_per_prompt: usize,
    /// With kto: the weight of right responses
    #[arg(long, default_value_t = 1.0)]
    pub desirable_weight: f64,
    /// With kto: the weight of wrong responses
    #[arg(long, default_value_t = 1.0)]
    pub undesirable_weight: f64,
    /// What becomes of responses that were cut off
    #[arg(long, value_enum, default_value = "zero")]
    pub truncated: Truncated,

    /// ppo: responses that are sampled, graded and trained on a round [default: 4 x the batch size]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollouts_per_round: Option<usize>,
    /// ppo: responses to each problem of a round
    #[arg(long, default_value_t = 1)]
    pub num_samples: usize,
    /// ppo: passes over a round's responses
    #[arg(long, default_value_t = 4)]
    pub ppo_epochs: usize,
    /// ppo: how far from 1 a token's ratio to the policy that wrote it may be
    #[arg(long, default_value_t = 0.2)]
    pub clip_range: f64,
    /// ppo: how far a value may be from what it was when its round began
    #[arg(long, default_value_t = 0.2)]
    pub value_clip_range: f64,

    /// The optimizer
    #[arg(long, value_enum, default_value = "adamw")]
    pub optimizer: OptimizerType,
    /// Weight decay, on every weight as in torch.optim.AdamW
    #[arg(long, default_value_t = 0.0)]
    pub weight_decay: f64,
    #[arg(long, default_value_t = 0.9)]
    pub adam_beta1: f64,
    #[arg(long, default_value_t = 0.999)]
    pub adam_beta2: f64,
    #[arg(long, default_value_t = 1e-8)]
    pub adam_epsilon: f64,
    /// The gradient norm that policy and value are each clipped to; 0: off
    #[arg(long, default_value_t = 1.0)]
    pub max_grad_norm: f64,
    /// The course of the learning rate
    #[arg(long, value_enum, default_value = "constant")]
    pub lr_scheduler_type: SchedulerType,
    /// The share of the steps over which the learning rate rises from 0
    #[arg(long, default_value_t = 0.0)]
    pub warmup_ratio: f64,

    /// The reference policy [default: the policy as it starts: the model, and --adapter where it is given]
    #[arg(long, value_name = "DIR|ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_model: Option<String>,
    /// A value network to start from, or with --value shared-base its adapters [default: the policy's, and a head of zeros]
    #[arg(long, value_name = "DIR|ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_model: Option<String>,
    /// Problems to evaluate the policy on, greedily; the best one is kept in OUT/best
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_data: Option<PathBuf>,
    /// With --eval-data: steps between evaluations; the last step is always evaluated
    #[arg(long, default_value_t = 100)]
    pub eval_steps: usize,
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
    /// Steps between checkpoints; 0: only where the run is interrupted
    #[arg(long, default_value_t = 100)]
    pub save_steps: usize,
    /// Checkpoints to keep; 0: all
    #[arg(long, default_value_t = 2)]
    pub save_total_limit: usize,
}

impl Default for TrainConfig {
    /// The command line's defaults; model, data and output directory are not set.
    fn default() -> Self {
        #[derive(Parser)]
        struct CommandLine {
            #[command(flatten)]
            config: TrainConfig,
        }
        CommandLine::parse_from(["defaults"]).config
    }
}

impl TrainConfig {
    /// Checks what no type says.
    ///
    /// # Errors
    /// Names the option that is missing or out of its range.
    pub fn check(&self) -> Result<()> {
        present("--method", self.method.is_some())?;
        present("--model", self.model.is_some())?;
        present("--data", self.data.is_some())?;
        present("--output-dir", self.output_dir.is_some())?;
        self.check_ranges()
    }

    /// Checks what a plan needs: neither data nor a place for the result.
    ///
    /// # Errors
    /// As [`TrainConfig::check`].
    pub fn check_to_plan(&self) -> Result<()> {
        present("--method", self.method.is_some())?;
        present("--model", self.model.is_some())?;
        self.check_ranges()
    }

    fn check_ranges(&self) -> Result<()> {
        self.check_lora()?;
        let counts = [
            ("--batch-size", self.batch_size),
            ("--tokens-per-micro-batch", self.tokens_per_micro_batch),
            ("--num-train-epochs", self.num_train_epochs),
            ("--max-length", self.max_length),
            ("--max-pairs-per-prompt", self.max_pairs_per_prompt),
            ("--max-steps", self.max_steps.unwrap_or(1)),
            ("--eval-steps", self.eval_steps),
            ("--max-new-tokens", self.max_new_tokens),
            ("--eval-batch-size", self.eval_batch_size),
            ("--rollouts-per-round", self.rollouts_per_round.unwrap_or(1)),
            ("--num-samples", self.num_samples),
            ("--ppo-epochs", self.ppo_epochs),
        ];
        for (name, value) in counts {
            ensure!(value > 0, "{name} is 0; it must be at least 1");
        }
        ensure!(
            self.eval_batch_size <= MAX_BATCH,
            "--eval-batch-size is {}; it must be at most {MAX_BATCH}",
            self.eval_batch_size
        );
        ensure!(
            self.method != Some(Method::Kto) || self.batch_size > 1,
            "--batch-size is 1; kto compares the rows of a step with each other, so it must be at least 2"
        );
        let unit = 0.0..=1.0;
        let below_one = |value: f64| (0.0..1.0).contains(&value);
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let ranges = [
            ("--learning-rate", self.learning_rate, not_negative(self.learning_rate)),
            ("--value-learning-rate", self.value_learning_rate(), not_negative(self.value_learning_rate())),
            ("--beta", self.beta.unwrap_or(0.0), not_negative(self.beta.unwrap_or(0.0))),
            ("--lambda", self.lambda, unit.contains(&self.lambda)),
            ("--process-scale", self.process_scale, self.process_scale.is_finite()),
            ("--desirable-weight", self.desirable_weight, not_negative(self.desirable_weight)),
            ("--undesirable-weight", self.undesirable_weight, not_negative(self.undesirable_weight)),
            ("--weight-decay", self.weight_decay, not_negative(self.weight_decay)),
            ("--adam-beta1", self.adam_beta1, below_one(self.adam_beta1)),
            ("--adam-beta2", self.adam_beta2, below_one(self.adam_beta2)),
            ("--adam-epsilon", self.adam_epsilon, not_negative(self.adam_epsilon)),
            ("--max-grad-norm", self.max_grad_norm, not_negative(self.max_grad_norm)),
            ("--warmup-ratio", self.warmup_ratio, unit.contains(&self.warmup_ratio)),
            ("--clip-range", self.clip_range, positive(self.clip_range)),
            ("--value-clip-range", self.value_clip_range, positive(self.value_clip_range)),
        ];
        for (name, value, allowed) in ranges {
            ensure!(allowed, "{name} is {value}, which is out of its range");
        }
        if self.method == Some(Method::Ppo) {
            rounds::check(self)?;
        }
        Ok(())
    }

    /// Sets what follows from the method and other settings where the user did not, so that the record of a run has it.
    pub(super) fn complete(&mut self) {
        self.beta = self.beta.or_else(|| self.method?.default_beta());
        if self.method == Some(Method::Ppo) {
            self.rollouts_per_round = Some(rounds::rollouts_per_round(self));
        } else {
            self.task.get_or_insert(Task::Gsm8k);
        }
    }

    /// How problems are asked and responses graded.
    pub fn task(&self) -> Task {
        self.task.unwrap_or(Task::Gsm8k)
    }

    /// The value network's learning rate.
    pub fn value_learning_rate(&self) -> f64 {
        self.value_learning_rate.unwrap_or(self.learning_rate)
    }

    /// The method with its switches.
    pub fn objective(&self, method: Method) -> Box<dyn Objective> {
        let beta = self.beta.or(method.default_beta()).unwrap_or(0.0);
        match method {
            Method::Sft => Box::new(Sft { right_only: false }),
            Method::Rs => Box::new(Sft { right_only: true }),
            Method::Ppo => Box::new(Ppo { clip_range: self.clip_range, value_clip_range: self.value_clip_range }),
            Method::Dqo => Box::new(Dqo {
                beta,
                lambda: self.lambda,
                policy_is: self.policy_is,
                value_is: self.value_is,
                tail: self.lambda_tail,
                policy_target: self.policy_target,
                mean_reduction: self.loss_reduction == LossReduction::Mean,
            }),
            Method::Dro => Box::new(Dro { beta }),
            Method::Dpo => Box::new(Dpo { beta }),
            Method::Kto => Box::new(Kto {
                beta,
                desirable_weight: self.desirable_weight,
                undesirable_weight: self.undesirable_weight,
            }),
        }
    }
}

fn present(name: &str, given: bool) -> Result<()> {
    ensure!(given, "{name} is missing; give it as an option or in the file that --config names");
    Ok(())
}
