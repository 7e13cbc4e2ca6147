//! A*-PO, "Accelerating RL for LLM Reasoning with Optimal Advantage Regression" (Brantley et al. 2025), offline: with
//! `V* = beta1 log mean exp(R_i / beta1)` over the responses to a prompt, estimated once, and `D = sum_t (log pi - log pi_ref)`,
//! `L = mean (beta2 D + V* - R)^2`, on the given responses where the paper samples new ones. No value network.

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::method::{About, MethodOptions};
use super::options::{ReferenceOptions, Truncated, TruncatedOptions};
use super::range::positive;
use super::seam::{Metrics, Objective, Seam, StepTotals, TrainsOn};
use crate::kernels::{self, A2PO_STATISTICS};

/// A*-PO: rows with a reward each, several responses a prompt
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct A2po {
    /// The temperature of the optimal value V* of a prompt
    #[arg(long, default_value_t = 0.5)]
    pub beta1: f64,
    /// The coefficient of the log-ratio
    #[arg(long, default_value_t = 1e-3)]
    pub beta2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: TruncatedOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub reference: ReferenceOptions,
}

impl MethodOptions for A2po {
    const METRICS: &'static [About] = &[
        About { metric: "loss", is: "what is minimised" },
        About { metric: "log_ratio", is: "to the reference, of a response" },
        About { metric: "kl", is: "from the reference, of a response, estimated" },
        About { metric: "rewards/mean", is: "mean reward of the step's responses" },
        About { metric: "advantages/mean", is: "mean of R - V*" },
    ];
}

impl Objective for A2po {
    fn name(&self) -> &str {
        "a2po"
    }

    fn options(&self) -> Result<toml::Table> {
        Ok(toml::Table::try_from(self)?)
    }

    fn settle(&mut self, _: usize) -> Result<()> {
        positive("--beta1", self.beta1)?;
        positive("--beta2", self.beta2)
    }

    fn trains_on(&self) -> TrainsOn {
        TrainsOn::Compared
    }

    /// `R - V*`. The largest exponent is taken off, so that nothing overflows.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64> {
        let largest = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = rewards.iter().map(|reward| ((reward - largest) / self.beta1).exp()).sum();
        let optimal_value = largest + self.beta1 * (sum / rewards.len() as f64).ln();
        rewards.iter().map(|reward| reward - optimal_value).collect()
    }

    fn truncated(&self) -> Truncated {
        self.rows.truncated
    }

    fn reference(&self) -> Option<&ReferenceOptions> {
        Some(&self.reference)
    }

    fn statistics(&self) -> usize {
        A2PO_STATISTICS
    }

    fn gradients(&self, seam: Seam) -> Result<()> {
        seam.device.run(kernels::A2po {
            starts: &seam.batch.response_starts,
            rollout: seam.rollout,
            logp: seam.logp,
            dlogp: seam.dlogp,
            statistics: seam.statistics,
            sequences: seam.batch.sequences as u32,
            first_sequence: seam.first_sequence as u32,
            batch_sequences: seam.totals.sequences as u32,
            beta: self.beta2 as f32,
        });
        Ok(())
    }

    fn metrics(&self, statistics: &[f64], _: StepTotals) -> Metrics {
        let rows = || statistics.chunks_exact(A2PO_STATISTICS);
        let mean = |of: &dyn Fn(&[f64]) -> f64| rows().map(of).sum::<f64>() / rows().count() as f64;
        // [D, R, A, delta, the KL's terms]
        vec![
            ("loss", mean(&|row| row[3] * row[3])),
            ("log_ratio", mean(&|row| row[0])),
            ("kl", mean(&|row| row[4])),
            ("rewards/mean", mean(&|row| row[1])),
            ("advantages/mean", mean(&|row| row[2])),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_optimal_value_is_between_the_mean_and_the_best() {
        let advantages = |beta1, rewards: &[f64]| A2po { beta1, ..A2po::default() }.advantages(rewards);
        // 0.5 log((e^2 + 1) / 2)
        let expected = 0.5 * ((2f64.exp() + 1.0) / 2.0).ln();
        assert_eq!(advantages(0.5, &[1.0, 0.0]), [1.0 - expected, -expected]);
        assert!((advantages(1e9, &[1.0, 0.0])[0] - 0.5).abs() < 1e-6, "the mean, where the temperature is high");
        assert!(advantages(1e-9, &[1.0, 0.0])[0].abs() < 1e-6, "the best, where it is low");
        assert_eq!(advantages(0.5, &[0.25]), [0.0]);
    }
}
