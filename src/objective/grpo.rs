//! Group Relative Policy Optimization (DeepSeekMath, Shao et al. 2024), offline, on given responses:
//! `L = mean over responses of the mean over tokens of max(-A ratio, -A clip(ratio, 1 - e, 1 + e)) + beta KL`, with
//! `A = (R - mean) / (std + 1e-4)` over the responses to a prompt, `ratio = pi / pi_old`, and Schulman's k3 for the KL to the
//! reference.

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::moments::Moments;
use super::options::{ReferenceOptions, Truncated, TruncatedOptions};
use super::range::{not_negative, positive};
use super::seam::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, GRPO_STATISTICS};

/// Group Relative Policy Optimization: rows with a reward each, several responses a prompt
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grpo {
    /// The coefficient of the KL term
    #[arg(long, default_value_t = 0.04)]
    pub beta: f64,
    /// How far from 1 a token's ratio to the policy that wrote it may be
    #[arg(long, default_value_t = 0.2)]
    pub clip_range: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: TruncatedOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub reference: ReferenceOptions,
}

/// Added to the standard deviation of a prompt's rewards, as TRL does.
const EPSILON: f64 = 1e-4;

impl MethodOptions for Grpo {
    const METRICS: &'static [About] = &[
        About { metric: "loss", is: "what is minimised" },
        About { metric: "policy_loss", is: "of the policy" },
        About { metric: "kl", is: "to the reference, a token, estimated" },
        About { metric: "approx_kl", is: "half the mean square of log pi - log pi_old" },
        About { metric: "clip_frac", is: "share of ratios clipped" },
        About { metric: "ratio/mean", is: "mean of pi / pi_old, a token" },
        About { metric: "log_ratio", is: "to the reference, of a response" },
        About { metric: "rewards/mean", is: "mean reward of the step's responses" },
        About { metric: "advantages/mean", is: "mean advantage of the step's responses" },
    ];
}

impl Objective for Grpo {
    fn name(&self) -> &str {
        "grpo"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn settle(&mut self, _: usize) -> Result<()> {
        not_negative("--beta", self.beta)?;
        positive("--clip-range", self.clip_range)
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Compared
    }

    /// `(R - mean) / (std + 1e-4)`, with the unbiased variance. A response alone has nothing to be compared with: 0.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        let Moments { mean, variance } = Moments::of(rewards);
        let deviation = variance.sqrt();
        rewards.iter().map(|reward| (reward - mean) / (deviation + EPSILON)).collect()
    }

    fn truncated(&self) -> Truncated {
        self.rows.truncated
    }

    fn reference(&self) -> Option<&ReferenceOptions> {
        Some(&self.reference)
    }

    fn statistics(&self) -> usize {
        GRPO_STATISTICS
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        seam.device.run(kernels::Grpo {
            starts: &seam.batch.response_starts,
            rollout: seam.rollout,
            logp: seam.logp,
            dlogp: seam.dlogp,
            statistics: seam.statistics,
            sequences: seam.batch.sequences as u32,
            first_sequence: seam.first_sequence as u32,
            batch_sequences: seam.totals.sequences as u32,
            beta: self.beta as f32,
            clip_range: self.clip_range as f32,
        });
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], _: StepTotals) -> Metrics {
        let rows = || statistics.chunks_exact(GRPO_STATISTICS);
        let mean = |column: usize| rows().map(|row| row[column]).sum::<f64>() / rows().count() as f64;
        // [p, kl, clipped, ratio; D, R, A, (log pi - log pi_old)^2 / 2]
        vec![
            ("loss", mean(0) + self.beta * mean(1)),
            ("policy_loss", mean(0)),
            ("kl", mean(1)),
            ("approx_kl", mean(7)),
            ("clip_frac", mean(2)),
            ("ratio/mean", mean(3)),
            ("log_ratio", mean(4)),
            ("rewards/mean", mean(5)),
            ("advantages/mean", mean(6)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_are_the_rewards_shifted_and_scaled() {
        let found = Grpo::default().advantages(&[1.0, 2.0, 3.0]);
        assert!(
            found.iter().zip([-1.0, 0.0, 1.0]).all(|(found, expected): (&f64, f64)| (found - expected).abs() < 2e-4)
        );
        assert_eq!(Grpo::default().advantages(&[0.7]), [0.0]);
        assert_eq!(Grpo::default().advantages(&[1.0, 1.0]), [0.0, 0.0]);
    }
}
