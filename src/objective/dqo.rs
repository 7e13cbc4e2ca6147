//! Direct Q-function Optimization (section 3 of the paper).

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Metrics, Objective, Seam, StepTotals, TrainsOn};
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

/// What the policy's residual takes for the value behind an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyTarget {
    /// The lambda-return of the next state (eq. 3.13).
    Lambda,
    /// The value of the next state (eq. 3.6).
    Td,
}

/// DQO and its switches.
pub struct Dqo {
    /// The coefficient of the KL term.
    pub beta: f64,
    pub lambda: f64,
    /// Weight the policy's loss by the importance of the response (Table 5).
    pub policy_is: bool,
    /// Weight the value's loss by it.
    pub value_is: bool,
    pub tail: Tail,
    pub policy_target: PolicyTarget,
    /// Means over a response's actions in place of sums.
    pub mean_reduction: bool,
}

impl Objective for Dqo {
    fn uses_value(&self) -> bool {
        true
    }

    fn uses_reference(&self) -> bool {
        true
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Rewarded
    }

    fn statistics(&self) -> usize {
        DQO_STATISTICS
    }

    fn gradients(&self, seam: Seam) {
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
            paper_tail: (self.tail == Tail::Paper).into(),
            td_target: (self.policy_target == PolicyTarget::Td).into(),
            mean_reduction: self.mean_reduction.into(),
        });
    }

    fn metrics(&self, statistics: &[f64], totals: StepTotals) -> Metrics {
        let (sequences, tokens) = (totals.sequences as f64, totals.tokens as f64);
        let rows = || statistics.chunks_exact(DQO_STATISTICS).map(Statistics::of);
        let mean = |of: &dyn Fn(&Statistics) -> f64| rows().map(|row| of(&row)).sum::<f64>() / sequences;
        let token_mean = |of: &dyn Fn(&Statistics) -> f64| rows().map(|row| of(&row)).sum::<f64>() / tokens;

        let per_sequence = |row: &Statistics| if self.mean_reduction { row.actions } else { 1.0 };
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
            ("kl", mean(&|row| row.log_ratio_ref)),
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
        }
    }
}
