//! Direct Q-function Optimization (section 3 of the paper).

use anyhow::Result;
use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::options::{ReferenceOptions, Truncated, TruncatedOptions, ValueOptions};
use super::range::{not_negative, unit, within};
use super::seam::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, DQO_STATISTICS};

/// The weights of the lambda-return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tail {
    /// They sum to 1: the last n-step return has the weight of all that would follow it.
    Standard,
    /// Eq. 3.11 as printed: they sum to `1 - lambda^n`.
    Paper,
}

/// What the policy's residual takes for the value after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyTarget {
    /// The lambda-return of the next state (eq. 3.13).
    Lambda,
    /// The value of the next state (eq. 3.6).
    Td,
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

/// Direct Q-function Optimization: rows with a reward each
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dqo {
    /// The coefficient of the KL term
    #[arg(long, default_value_t = 0.03)]
    pub beta: f64,
    /// The lambda of the lambda-return
    #[arg(long, default_value_t = 1.0)]
    pub lambda: f64,
    /// Weight the policy's loss by the importance of the response
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub policy_is: bool,
    /// Weight the value's loss by the importance of the response; false where the policy leaves its reference
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
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: TruncatedOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub value_network: ValueOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub reference: ReferenceOptions,
}

impl MethodOptions for Dqo {
    const METRICS: &'static [About] = &[
        About { metric: "loss", is: "what is minimised" },
        About { metric: "policy_loss", is: "of the policy" },
        About { metric: "value_loss", is: "of the value network" },
        About { metric: "log_ratio", is: "to the reference, of a response" },
        About { metric: "kl", is: "from the reference, of a response, estimated" },
        About { metric: "rewards/mean", is: "mean reward of the step's responses" },
        About { metric: "is_weight/mean", is: "mean importance of a response" },
        About { metric: "is_weight/clip_frac", is: "share of importances clipped" },
        About { metric: "values/mean", is: "mean V over the response tokens" },
        About { metric: "values/explained_variance", is: "share of the returns' variance explained by V" },
    ];
}

impl Dqo {
    /// Whether a sequence's losses are means.
    fn means(&self) -> bool {
        self.loss_reduction == LossReduction::Mean
    }
}

impl Objective for Dqo {
    fn name(&self) -> &str {
        "dqo"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn settle(&mut self, _: usize) -> Result<()> {
        not_negative("--beta", self.beta)?;
        unit("--lambda", self.lambda)?;
        within("--process-scale", self.process_scale, self.process_scale.is_finite())
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Rewarded { process_scale: self.process_scale }
    }

    fn truncated(&self) -> Truncated {
        self.rows.truncated
    }

    fn value_network(&self) -> Option<&ValueOptions> {
        Some(&self.value_network)
    }

    fn reference(&self) -> Option<&ReferenceOptions> {
        Some(&self.reference)
    }

    fn statistics(&self) -> usize {
        DQO_STATISTICS
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        let value = seam.value.expect("DQO trains a value network");
        seam.device.run(kernels::Dqo {
            starts: &seam.batch.response_starts,
            rollout: seam.rollout,
            bootstrap: value.bootstrap,
            logp: seam.logp,
            value: value.value,
            dlogp: seam.dlogp,
            dvalue: value.dvalue,
            statistics: seam.statistics,
            sequences: seam.batch.sequences as u32,
            first_sequence: seam.first_sequence as u32,
            batch_sequences: seam.totals.sequences as u32,
            beta: self.beta as f32,
            lambda: self.lambda as f32,
            policy_is: self.policy_is.into(),
            value_is: self.value_is.into(),
            paper_tail: (self.lambda_tail == Tail::Paper).into(),
            td_target: (self.policy_target == PolicyTarget::Td).into(),
            mean_reduction: self.means().into(),
        });
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        let (sequences, tokens) = (totals.sequences as f64, totals.tokens as f64);
        let rows = || statistics.chunks_exact(DQO_STATISTICS).map(Statistics::of);
        let mean = |of: &dyn Fn(&Statistics) -> f64| rows().map(|row| of(&row)).sum::<f64>() / sequences;
        let token_mean = |of: &dyn Fn(&Statistics) -> f64| rows().map(|row| of(&row)).sum::<f64>() / tokens;

        let per_sequence = |row: &Statistics| if self.means() { row.actions } else { 1.0 };
        let policy_weight = |row: &Statistics| if self.policy_is { row.weight } else { 1.0 };
        let value_weight = |row: &Statistics| if self.value_is { row.weight } else { 1.0 };
        let policy_loss = mean(&|row| policy_weight(row) * row.e_squared / per_sequence(row));
        let value_loss = mean(&|row| value_weight(row) * row.f_squared / per_sequence(row));

        let variance = |square: f64, mean: f64| square - mean * mean;
        let of_returns = variance(token_mean(&|row| row.g_squared), token_mean(&|row| row.g));
        let of_residuals = variance(token_mean(&|row| row.f_squared), token_mean(&|row| row.f));
        let explained = if of_returns > 0.0 { 1.0 - of_residuals / of_returns } else { 0.0 };
        vec![
            ("loss", policy_loss + value_loss),
            ("policy_loss", policy_loss),
            ("value_loss", value_loss),
            ("log_ratio", mean(&|row| row.log_ratio_ref)),
            ("kl", mean(&|row| row.kl)),
            ("rewards/mean", mean(&|row| row.reward)),
            ("is_weight/mean", mean(&|row| row.weight)),
            ("is_weight/clip_frac", mean(&|row| f64::from(u8::from(row.log_ratio > 1.0)))),
            ("values/mean", token_mean(&|row| row.value)),
            ("values/explained_variance", explained),
        ]
    }
}

/// A sequence's row of the kernel's statistics.
struct Statistics {
    weight: f64,
    log_ratio: f64,
    log_ratio_ref: f64,
    reward: f64,
    e_squared: f64,
    f_squared: f64,
    f: f64,
    value: f64,
    g: f64,
    g_squared: f64,
    actions: f64,
    kl: f64,
}

impl Statistics {
    fn of(row: &[f64]) -> Self {
        Self {
            weight: row[0],
            log_ratio: row[1],
            log_ratio_ref: row[2],
            reward: row[3],
            e_squared: row[4],
            f_squared: row[5],
            f: row[6],
            value: row[7],
            g: row[8],
            g_squared: row[9],
            actions: row[10],
            kl: row[11],
        }
    }
}
